"""Export from Keras to LiteRT, in float and int8, with checks."""
