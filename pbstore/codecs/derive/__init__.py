"""Predictions as small programs over stored tensors: one mechanism for every kind of edit.

    grammar    what a program may say, its bytes, and what is checked before it runs
    evaluate   a program and its parents to expected elements, any range of them
    choices    which of several predictions each element follows
    narrow     casts from and to float8 and integers

A program is a list of steps of a closed list on a stack. It must give the same on every machine: elementwise
operations of numpy in a fixed order, no sums over an axis, no BLAS, no fused multiply-add.
"""
