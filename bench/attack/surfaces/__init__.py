"""What is attacked, a surface a file: what a file calls SURFACE is one, under the file's name."""
