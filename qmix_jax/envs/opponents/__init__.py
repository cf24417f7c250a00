"""Games of two sides: train one of them, while the other one plays randomly, by a function, or by a saved policy."""
