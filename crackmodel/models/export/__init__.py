"""From Keras to LiteRT, in float and in 8 bits, with the proof that nothing was lost."""
