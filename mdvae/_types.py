"""Array shapes that cross room borders."""

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

# One conformation: positions in nm (or in reduced units), two or three of them an atom.
Frame = Float[Array, "n_atoms dim"]
# One conformation as the vector that networks see.
Features = Float[Array, " n_features"]
# One point in latent space.
Latent = Float[Array, " latent_dim"]
Weights = Float[Array, " n_atoms"]
Scalar = Float[Array, ""]
# Numbers that users give, NumPy's included.
Whole = int | np.integer
Number = float | int | np.floating
Key = PRNGKeyArray | Shaped[Array, "2"]
