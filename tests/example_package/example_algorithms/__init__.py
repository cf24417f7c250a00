"""An algorithm and a mixer of your own."""
