"""Several processes that speak HTTP, and one that holds the models: one copy of the weights, one queue, one batch.

A supervisor starts them and starts again what dies. Between the processes there is a Unix socket in a folder that only
this user can enter; over it go texts one way and scores the other.
"""
