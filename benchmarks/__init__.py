"""Programs that compare Bertie with other tools side by side, and leave records."""
