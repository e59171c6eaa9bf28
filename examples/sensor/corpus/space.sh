#!/bin/sh
# Shows the free space where the pictures are.
df -h "$HOME"
