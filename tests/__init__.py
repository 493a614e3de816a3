"""The tests mirror src/bertie; contracts/ holds what is true of the project as a whole."""
