"""Parts of a loss and of an update: targets, optimisers, standardisation, minibatch parts."""
