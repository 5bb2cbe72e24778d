"""Trained models inside of other packages: one thin file each, none of which mdvae needs otherwise."""
