"""How binary the attention of trained models is, what makes it so, and which particles it links.

After `"Why Is Attention Sparse in Particle Transformer?" <https://arxiv.org/abs/2512.00210>`_ and `"Interpreting
Transformers for Jet Tagging" <https://arxiv.org/abs/2412.03673>`_.
"""
