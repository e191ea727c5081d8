"""Parts that know no tokenizer: patches, principal components, k-means, linear vector quantizers, banks of pictures."""
