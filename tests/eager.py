"""Runs a script without tracing its training steps, faster for a few steps: python eager.py SCRIPT"""
import runpy
import sys

from networks.backend import keras

COMPILE = keras.Model.compile
keras.Model.compile = lambda model, **options: COMPILE(model, run_eagerly=True, **options)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
