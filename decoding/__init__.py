"""From tokens to pixels: filling masked tokens, a picture's place on its canvas, colours, octaves."""
