"""ASE: a bias that depends on the latent coordinates, as a calculator to be added to another one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mdvae.adapters.bias import Potential, energy_in_double
from mdvae.adapters.placement import Atoms, Cell, place
from mdvae.latent.agreement import check_agreement
from mdvae.model import Model

try:
    import ase
    from ase.calculators.calculator import Calculator, all_changes
    from ase.units import nm
except ImportError as error:
    raise ImportError("mdvae.adapters.ase needs ASE: pip install 'mdvae[ase]'") from error

# Both sides compute in float64.
_TOLERANCE = 1e-9


class LatentBias(Calculator):
    """Calculator of a potential of the latent coordinates: energy in eV, forces in eV/Å.

    In a periodic cell the molecule is made whole along its bonds.

    Parameters
    ----------
    model : Model
        Trained.
    host : ase.Atoms
        The ones that it is for: with as many atoms, and the same periodic boundary conditions.
    potential : callable
        JAX function of z (latent_dim,) to an energy in eV.
    atoms : (n_atoms,), optional
        Which of the host's atoms are the model's, in its order. If left out they are those that the model was trained
        on, by their places in its file, and their masses are compared.

    Raises
    ------
    ValueError
        If the atoms do not fit, if the host is periodic in some directions only, if the potential does not give one
        number, and if ASE does not get what the model gives on training frames that were moved and turned.

    Examples
    --------
    >>> bias = mdvae.adapters.ase.LatentBias(model, atoms, lambda z: 0.1 * z[0] ** 2)  # doctest: +SKIP
    >>> atoms.calc = ase.calculators.mixing.SumCalculator([atoms.calc, bias])  # doctest: +SKIP
    """

    implemented_properties = ["energy", "forces", "free_energy"]  # noqa: RUF012 (as ASE declares it)

    def __init__(self, model: Model, host: "ase.Atoms", potential: Potential, *, atoms: Atoms | None = None) -> None:
        super().__init__()
        if host.pbc.any() and not host.pbc.all():
            raise ValueError(f"expected a host that is periodic in all directions or in none, got pbc {host.pbc}")
        self._pbc, self._n_atoms = host.pbc.copy(), len(host)
        self._placement = place(model, host.get_masses(), atoms=atoms, periodic=bool(host.pbc.all()))
        self._evaluate = energy_in_double(model, potential)
        self._check(model, self._placement.own)

    def calculate(
        self,
        atoms: "ase.Atoms | None" = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Energy and forces of the host's atoms, as ASE asks for them."""
        super().calculate(atoms, properties, system_changes)
        host: Any = self.atoms
        if len(host) != self._n_atoms or (host.pbc != self._pbc).any():
            raise ValueError(
                f"the bias was made for {self._n_atoms} atoms with pbc {self._pbc}, got {len(host)} with {host.pbc}: "
                "make another one"
            )
        cell = host.cell.array if self._pbc.all() else None
        energy, forces = self._energy_and_forces(host.positions, cell)
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}

    def _energy_and_forces(
        self, positions: Float[np.ndarray, "n_host 3"], cell: Cell | None
    ) -> tuple[float, Float[np.ndarray, "n_host 3"]]:
        """Of positions and a cell in Å."""
        atoms = self._placement.atoms
        frame = self._placement.frame(positions[atoms] / nm, None if cell is None else cell / nm)
        energy, gradient = self._evaluate(frame)
        forces = np.zeros_like(positions)
        forces[atoms] = -self._placement.scatter(gradient) / nm
        return energy, forces

    def _check(self, model: Model, own: Int[np.ndarray, " n_atoms"]) -> None:
        """Compute in ASE's units, with the model's atoms among the others, what the model gives."""

        def evaluate(frame: np.ndarray) -> tuple[Any, Any]:
            positions = np.zeros((self._n_atoms, 3))
            positions[own] = frame * nm
            energy, forces = self._energy_and_forces(positions, None)
            return energy, -forces[own] * nm

        check_agreement(model, evaluate, name="ASE", tolerance=_TOLERANCE, reference=self._evaluate)
