"""Studies: a configuration in, results out.

A kind of study is one folder, which exports its ``STUDY``: ``comparison`` (arms on questions), ``faithfulness`` (which
layers matter, and which score finds them), ``speed`` (the price of re-mixing).
"""
