"""What the authors of IAFormer (arXiv 2505.03258) show of it, of any model with attention: attention maps, how alike
the layers are (linear CKA), and beta.
"""
