"""``python -m distilset``, for torchrun and for machines without the script on their path."""

from distilset.cli import main

if __name__ == "__main__":
    main()
