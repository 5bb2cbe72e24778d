// The latent explorer: decodes latent points in the page and draws what comes out. It asks no network for anything.
//
// First what is pure arithmetic, in double precision: networks, coordinates, poses, bonds, a file. Then what draws and
// what listens. For tests and for a browser's console there is `window.mdvae`:
//   decode(z)    coordinates of a latent point, Float64Array of n_atoms * dim numbers, in nm (or reduced units)
//   current()    {z, coordinates} that are shown now
//   show(z)      show another point
(() => {
  "use strict";

  const element = (name) => document.getElementById(`mdvae-explorer-${name}`);
  const data = JSON.parse(element("data").textContent);
  const { dim, nAtoms, latentDim, unit } = data;

  // Numbers from base64 of little-endian float32.
  function unpacked(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return Float64Array.from(new Float32Array(bytes.buffer));
  }

  // ---- networks ----

  const ACTIVATIONS = {
    silu: (x) => x / (1 + Math.exp(-x)),
    tanh: Math.tanh,
    softplus: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
    gelu: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  };
  const activate = ACTIVATIONS[data.decoder.activation];
  const layers = data.decoder.layers.map(({ weight, bias }) => ({ weight: unpacked(weight), bias: unpacked(bias) }));
  const shift = unpacked(data.decoder.shift);
  const scale = unpacked(data.decoder.scale);

  function linear({ weight, bias }, x) {
    return bias.map((start, row) => {
      let sum = start;
      for (let k = 0, at = row * x.length; k < x.length; k++, at++) sum += weight[at] * x[k];
      return sum;
    });
  }

  // Parameters of the likelihood. Its mean is the parameters, but for the lengths of vectors that stand for angles.
  function network(z) {
    let x = Float64Array.from(z);
    layers.slice(0, -1).forEach((layer, number) => {
      const y = linear(layer, x).map(activate);
      const adds = data.decoder.residual && number > 0 && y.length === x.length;
      x = adds ? y.map((value, k) => x[k] + value) : y;
    });
    return linear(layers[layers.length - 1], x).map((value, k) => shift[k] + scale[k] * value);
  }

  // ---- vectors, as arrays of numbers ----

  const minus = (u, v) => u.map((value, k) => value - v[k]);
  const times = (factor, v) => v.map((value) => factor * value);
  const dot = (u, v) => u.reduce((sum, value, k) => sum + value * v[k], 0);
  const sum = (...vectors) => vectors[0].map((_, k) => vectors.reduce((total, v) => total + v[k], 0));
  const cross = ([a, b, c], [x, y, z]) => [b * z - c * y, c * x - a * z, a * y - b * x];
  const axis = (k, n) => Array.from({ length: n }, (_, i) => (i === k ? 1 : 0));

  // Of length one; the x-axis where there is no direction.
  function direction(v) {
    const length = Math.hypot(...v);
    return length > 0 ? times(1 / length, v) : axis(0, v.length);
  }

  // ---- internal coordinates to positions: one atom after another, as `geometry.internal` does ----

  // Sixteen roundings of float32: three atoms that are no farther off a line lie on it.
  const ON_A_LINE = (16 * 2 ** -23) ** 2;

  function fromInternal(features) {
    const nLinear = dim === 2 ? nAtoms - 1 : 2 * nAtoms - 3;
    const nAround = Math.max(0, nAtoms - dim);
    const around = Array.from({ length: nAround }, (_, k) => {
      const [c, s] = [features[nLinear + k], features[nLinear + nAround + k]];
      return c === 0 && s === 0 ? 0 : Math.atan2(s, c);
    });
    const lengths = features.subarray(0, nAtoms - 1);
    const atoms = dim === 2
      ? fromTurns(lengths, around)
      : fromDihedrals(lengths, features.subarray(nAtoms - 1, nLinear), around);
    return Float64Array.from(atoms.flat());
  }

  function firstTwo(lengths) {
    const atoms = Array.from({ length: nAtoms }, () => new Array(dim).fill(0));
    atoms[data.references[1][0]][0] = lengths[0];
    return atoms;
  }

  function fromTurns(lengths, turns) {
    const atoms = firstTwo(lengths);
    data.references.slice(2).forEach(([atom, parent, grandparent], k) => {
      const x = direction(minus(atoms[parent], atoms[grandparent]));
      const along = sum(times(Math.cos(turns[k]), x), times(Math.sin(turns[k]), [-x[1], x[0]]));
      atoms[atom] = sum(atoms[parent], times(lengths[k + 1], along));
    });
    return atoms;
  }

  function fromDihedrals(lengths, angles, dihedrals) {
    const atoms = firstTwo(lengths);
    if (nAtoms === 2) return atoms;
    const [third, next, last] = data.references[2];
    const [sign] = direction(minus(atoms[next], atoms[last]));
    const bend = [-Math.cos(angles[0]) * sign, Math.sin(angles[0]), 0];
    atoms[third] = sum(atoms[next], times(lengths[1], bend));
    data.references.slice(3).forEach(([atom, parent, grandparent, reference], k) => {
      const [x, y, z] = axes(atoms[parent], atoms[grandparent], atoms[reference]);
      const side = sum(times(Math.cos(dihedrals[k]), y), times(Math.sin(dihedrals[k]), z));
      const along = sum(times(Math.sin(angles[k + 1]), side), times(-Math.cos(angles[k + 1]), x));
      atoms[atom] = sum(atoms[parent], times(lengths[k + 2], along));
    });
    return atoms;
  }

  // From grandparent to parent, across to the side of the reference, and perpendicular to both.
  function axes(parent, grandparent, reference) {
    const x = direction(minus(parent, grandparent));
    const across = (v) => minus(v, times(dot(v, x), x));
    const offset = minus(reference, grandparent);
    let side = across(offset);
    if (dot(side, side) <= ON_A_LINE * dot(offset, offset)) {
      const sizes = x.map(Math.abs);
      side = across(axis(sizes.indexOf(Math.min(...sizes)), 3));
    }
    const y = direction(side);
    return [x, y, cross(x, y)];
  }

  // ---- the pose, as `alignment` gives it ----

  const weights = unpacked(data.alignment.weights);
  const reference = data.alignment.reference === null ? null : unpacked(data.alignment.reference);

  function posed(frame) {
    const centered = toCenter(frame);
    if (data.alignment.kind === "none") return centered;
    return rotated(centered, data.alignment.kind === "principal" ? onAxes(centered) : onReference(centered));
  }

  function toCenter(frame) {
    const total = weights.reduce((all, weight) => all + weight, 0);
    const center = new Float64Array(dim);
    frame.forEach((value, at) => { center[at % dim] += weights[Math.floor(at / dim)] * value / total; });
    return frame.map((value, at) => value - center[at % dim]);
  }

  function rotated(frame, rotation) {
    return frame.map((_, at) => {
      const first = at - at % dim;
      return dot(rotation[at % dim], Array.from(frame.subarray(first, first + dim)));
    });
  }

  // Weighted products of the axes of two frames, summed over atoms.
  function products(frame, other) {
    const total = Array.from({ length: dim }, () => new Array(dim).fill(0));
    for (let atom = 0; atom < nAtoms; atom++) {
      for (let i = 0; i < dim; i++) {
        for (let j = 0; j < dim; j++) {
          total[i][j] += weights[atom] * frame[atom * dim + i] * other[atom * dim + j];
        }
      }
    }
    return total;
  }

  // The proper rotation that brings a centered frame nearest to the reference: an angle, or Horn's quaternion.
  function onReference(frame) {
    const m = products(frame, reference);
    if (dim === 2) {
      const [c, s] = direction([m[0][0] + m[1][1], m[0][1] - m[1][0]]);
      return [[c, -s], [s, c]];
    }
    const [[xx, xy, xz], [yx, yy, yz], [zx, zy, zz]] = m;
    const [[w, x, y, z]] = eigenvectors([
      [xx + yy + zz, yz - zy, zx - xz, xy - yx],
      [yz - zy, xx - yy - zz, xy + yx, zx + xz],
      [zx - xz, xy + yx, yy - xx - zz, yz + zy],
      [xy - yx, zx + xz, yz + zy, zz - xx - yy],
    ]);
    return [
      [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
      [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
      [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z],
    ];
  }

  // The frame's own axes, with those signs that make a proper rotation and bring it nearest to the reference.
  function onAxes(frame) {
    const vectors = eigenvectors(products(frame, frame));
    const overlaps = vectors.map((vector, k) => dot(vector, products(frame, reference).map((row) => row[k])));
    const volume = dim === 2
      ? vectors[0][0] * vectors[1][1] - vectors[0][1] * vectors[1][0]
      : dot(vectors[0], cross(vectors[1], vectors[2]));
    const choices = Array.from({ length: 2 ** dim }, (_, bits) => vectors.map((_, k) => ((bits >> k) & 1 ? -1 : 1)));
    const proper = choices.filter((signs) => signs.reduce((product, sign) => product * sign, volume) > 0);
    const best = proper.reduce((a, b) => (dot(b, overlaps) > dot(a, overlaps) ? b : a));
    return vectors.map((vector, k) => times(best[k], vector));
  }

  // Of a small symmetric matrix, those of large eigenvalues first: sweeps of Jacobi rotations.
  function eigenvectors(matrix) {
    const n = matrix.length;
    const a = matrix.map((row) => row.slice());
    const v = matrix.map((_, k) => axis(k, n));
    for (let sweep = 0; sweep < 12; sweep++) {
      for (let p = 0; p < n; p++) {
        for (let q = p + 1; q < n; q++) if (a[p][q] !== 0) rotate(a, v, p, q);
      }
    }
    const order = a.map((_, k) => k).sort((i, j) => a[j][j] - a[i][i]);
    return order.map((k) => v[k]);
  }

  // Turn in the plane of two axes so that their common entry vanishes; the rows of `v` become the eigenvectors.
  function rotate(a, v, p, q) {
    const tau = (a[q][q] - a[p][p]) / (2 * a[p][q]);
    const tangent = (tau >= 0 ? 1 : -1) / (Math.abs(tau) + Math.hypot(1, tau));
    const c = 1 / Math.hypot(1, tangent);
    const s = tangent * c;
    for (const row of a) [row[p], row[q]] = [c * row[p] - s * row[q], s * row[p] + c * row[q]];
    for (const rows of [a, v]) {
      const [first, second] = [rows[p], rows[q]];
      rows[p] = first.map((value, k) => c * value - s * second[k]);
      rows[q] = first.map((value, k) => s * value + c * second[k]);
    }
  }

  function decode(z) {
    const features = network(z);
    return data.references === null ? features : posed(fromInternal(features));
  }

  // ---- bonds against the data ----

  const BROKEN = 5;
  const bonds = data.bonds.pairs.map(([first, second]) => ({ first, second }));
  for (const name of ["mean", "spread", "smallest", "largest"]) {
    unpacked(data.bonds[name]).forEach((value, k) => { bonds[k][name] = value; });
  }
  data.bonds.held.forEach((value, k) => { bonds[k].held = value; });

  // Lengths, and how far they are off: from the mean where bonds are held, from the range of the data elsewhere.
  function measured(coordinates) {
    const at = (atom) => Array.from(coordinates.subarray(atom * dim, atom * dim + dim));
    return bonds.map((bond) => {
      const length = Math.hypot(...minus(at(bond.first), at(bond.second)));
      const outside = Math.max(bond.smallest - length, length - bond.largest, 0);
      return { bond, length, off: (bond.held ? Math.abs(length - bond.mean) : outside) / bond.spread };
    });
  }

  // ---- a PDB file ----

  const { atoms, residues, chains } = data.molecule;
  const CHAIN_NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const residueOf = (atom) => residues[atoms[atom][2]];
  const atomName = (atom) => `${residueOf(atom)[0]}${residueOf(atom)[1]} ${atoms[atom][0]}`;
  const position = (coordinates, atom) => [0, 1, 2].map((k) => (k < dim ? coordinates[atom * dim + k] : 0));
  // Columns are as wide as they are: what is larger starts again from zero, as other programs write it.
  const counted = (number, width) => String(number % 10 ** width).padStart(width);

  function atomLine(coordinates, atom) {
    const [name, symbol] = atoms[atom];
    const [residue, number, chain] = residueOf(atom);
    const label = name.length < 4 && symbol.length < 2 ? ` ${name}` : name.slice(0, 4);
    const chainName = (chains[chain] || CHAIN_NAMES[chain % CHAIN_NAMES.length]).slice(0, 1);
    const xyz = position(coordinates, atom).map((x) => (10 * x).toFixed(3).slice(0, 8).padStart(8)).join("");
    return `ATOM  ${counted(atom + 1, 5)} ${label.padEnd(4)} ${residue.slice(0, 3).padStart(3)} ${chainName}` +
      `${counted(number, 4)}    ${xyz}  1.00  0.00          ${symbol.slice(-2).toUpperCase().padStart(2)}`;
  }

  function pdb({ z, coordinates }) {
    const lines = ["REMARK    DECODED BY MDVAE, NOT RESTORED, AT THE LATENT POINT"];
    z.forEach((value, k) => lines.push(`REMARK    Z${k + 1} ${value.toPrecision(9)}`));
    for (let atom = 0; atom < nAtoms; atom++) {
      lines.push(atomLine(coordinates, atom));
      if (atom + 1 === nAtoms || residueOf(atom + 1)[2] !== residueOf(atom)[2]) lines.push("TER");
    }
    // Numbers that have started again would name other atoms.
    const named = bonds.filter(({ first, second }) => Math.max(first, second) < 99999);
    named.forEach(({ first, second }) => lines.push(`CONECT${counted(first + 1, 5)}${counted(second + 1, 5)}`));
    return [...lines, "END", ""].join("\n");
  }

  // ---- what is shown ----

  const rows = (flat, width) =>
    Array.from({ length: flat.length / width }, (_, k) => Array.from(flat.subarray(k * width, (k + 1) * width)));
  const points = rows(unpacked(data.frames.z), latentDim);
  const state = {
    z: null, coordinates: null, pinned: false, across: 0, up: 1, ends: data.frames.ends, playing: null,
  };
  const rounded = (value, digits = 3) => value.toFixed(digits).replace("-", "−");
  const format = (z) => (z.length > 1 ? `(${z.map((value) => rounded(value)).join(", ")})` : rounded(z[0]));
  const length = (value) => rounded(value, 4) + (unit && `\u00a0${unit}`);

  function show(z) {
    state.z = Array.from(z);
    state.coordinates = decode(state.z);
    element("frame-name").textContent = "";
    drawStructure();
    drawMarks();
    sayWhere();
    setOthers();
  }

  // ---- the latent plane ----

  const BINS = latentDim > 1 ? 120 : 60;
  const MARGIN = { l: 58, r: latentDim > 1 ? 88 : 16, t: 10, b: 46, autoexpand: false };
  const limits = Array.from({ length: latentDim }, (_, k) => {
    const values = points.map((point) => point[k]);
    const [low, high] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
    const room = 0.06 * (high - low) || 1;
    return [low - room, high + room];
  });
  const binOf = (value, [low, high]) => Math.floor(BINS * (value - low) / (high - low));
  const middles = ([low, high]) => Array.from({ length: BINS }, (_, k) => low + (k + 0.5) * (high - low) / BINS);

  // Half of the width that Scott's rule gives: there is more than one region as a rule.
  function kernel(k) {
    const values = points.map((point) => point[k]);
    const mean = values.reduce((a, b) => a + b) / values.length;
    const spread = Math.sqrt(values.reduce((all, value) => all + (value - mean) ** 2, 0) / values.length);
    const cells = BINS * 0.5 * spread * values.length ** (-1 / 6) / (limits[k][1] - limits[k][0]);
    const sigma = Math.min(Math.max(cells, 1), 6);
    const reach = Math.ceil(3 * sigma);
    const bell = Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp(-0.5 * ((i - reach) / sigma) ** 2));
    return times(1 / bell.reduce((a, b) => a + b), bell);
  }

  const smoothed = (row, bell) => row.map((_, k) => bell.reduce(
    (all, share, i) => all + share * (row[k + i - (bell.length - 1) / 2] ?? 0), 0));
  const transposed = (rows) => rows[0].map((_, k) => rows.map((row) => row[k]));

  // Minus the logarithm of the smoothed density of the frames, in kT; null where there are none.
  function freeEnergy(across, up) {
    const counts = Array.from({ length: BINS }, () => new Array(BINS).fill(0));
    for (const point of points) counts[binOf(point[up], limits[up])][binOf(point[across], limits[across])] += 1;
    const [along, upwards] = [kernel(across), kernel(up)];
    const rows = counts.map((row) => smoothed(row, along));
    const density = transposed(transposed(rows).map((row) => smoothed(row, upwards)));
    const most = Math.max(...density.map((row) => Math.max(...row)));
    const least = 0.3 * Math.max(...along) * Math.max(...upwards);
    return density.map((row) => row.map((value) => (value < least ? null : -Math.log(value / most))));
  }

  const axisLayout = (text, range) => ({
    title: { text, standoff: 6 }, range, zeroline: false, showline: true, linecolor: "#57606a", mirror: true,
    ticks: "outside", tickcolor: "#57606a", showgrid: false, fixedrange: true, automargin: false,
  });

  function planeTraces() {
    const { across, up } = state;
    if (latentDim === 1) {
      return [{ type: "bar", x: middles(limits[0]), y: histogram(), marker: { color: "#56b4e9" }, hoverinfo: "skip" }];
    }
    return [
      {
        type: "heatmap", x: middles(limits[across]), y: middles(limits[up]), z: freeEnergy(across, up),
        colorscale: "Viridis", hoverinfo: "skip", connectgaps: false, zmin: 0, zsmooth: "fast",
        colorbar: {
          title: { text: "free energy of the frames (kT)", side: "right" }, thickness: 12, len: 1, outlinewidth: 0,
          xpad: 6, ypad: 0, nticks: 7, ticksuffix: " ",
        },
      },
      {
        type: "scatter", mode: "markers", x: points.map((p) => p[across]), y: points.map((p) => p[up]),
        marker: { size: 2.5, color: "#fff", opacity: 0.25 },
        hoverinfo: "skip",
      },
    ];
  }

  function histogram() {
    const counts = new Array(BINS).fill(0);
    points.forEach(([value]) => { counts[binOf(value, limits[0])] += 1; });
    return counts;
  }

  function upLimits() {
    return latentDim === 1 ? [0, 1.15 * Math.max(...histogram())] : limits[state.up];
  }

  function drawPlane() {
    const layout = {
      margin: MARGIN, showlegend: false, bargap: 0, font: { size: 12 }, plot_bgcolor: "#fff", paper_bgcolor: "#fff",
      xaxis: axisLayout(latentDim === 1 ? "z" : `z<sub>${state.across + 1}</sub>`, limits[state.across]),
      yaxis: axisLayout(latentDim === 1 ? "frames" : `z<sub>${state.up + 1}</sub>`, upLimits()),
    };
    Plotly.react(element("plane"), planeTraces(), layout, { staticPlot: true, responsive: true });
  }

  // Margins are fixed, so that pixels and latent points follow from one another.
  function planeBox() {
    const { clientWidth, clientHeight } = element("plane");
    const { l: left, r: right, t: top, b: bottom } = MARGIN;
    return { left, top, width: clientWidth - left - right, height: clientHeight - top - bottom };
  }

  function toPixel(z) {
    const [box, [low, high], [bottom, top]] = [planeBox(), limits[state.across], upLimits()];
    const y = latentDim === 1 ? 0.5 * (bottom + top) : z[state.up];
    return [
      box.left + box.width * (z[state.across] - low) / (high - low),
      box.top + box.height * (top - y) / (top - bottom),
    ];
  }

  // Latent point under the pointer, null outside of the axes; other dimensions keep what they have.
  function underPointer(event) {
    const [box, area] = [planeBox(), element("plane").getBoundingClientRect()];
    const right = (event.clientX - area.left - box.left) / box.width;
    const down = (event.clientY - area.top - box.top) / box.height;
    if (right < 0 || right > 1 || down < 0 || down > 1) return null;
    const z = state.z.slice();
    const between = ([low, high], share) => low + share * (high - low);
    z[state.across] = between(limits[state.across], right);
    if (latentDim > 1) z[state.up] = between(limits[state.up], 1 - down);
    return z;
  }

  // The walk and the current point; drawn over plotly's picture, which need not be drawn again for a moved pointer.
  function drawMarks() {
    const [a, b] = state.ends.map(toPixel);
    const [x, y] = toPixel(state.z);
    const disc = ([cx, cy], radius, look) => `<circle cx="${cx}" cy="${cy}" r="${radius}" ${look}/>`;
    const ring = (color, width) => disc([x, y], 12, `fill="none" stroke="${color}" stroke-width="${width}"`);
    const here = latentDim === 1
      ? `<path d="M${x} ${planeBox().top}v${planeBox().height}" stroke="#d55e00" stroke-width="2"/>`
      : ring("#fff", 5) + ring("#d55e00", 2.5);
    const pin = state.pinned ? disc([x, y], 4.5, 'fill="#d55e00" stroke="#fff" stroke-width="1.5"') : "";
    const path = (look) => `<path d="M${a}L${b}" ${look}/>`;
    const dashes = 'stroke="#000" stroke-width="1.5" stroke-dasharray="5 4"';
    const line = path('stroke="#fff" stroke-width="3.5"') + path(dashes);
    const end = (at, name) =>
      disc(at, 8.5, 'fill="#fff" stroke="#000" stroke-width="1.5"') + `<text x="${at[0]}" y="${at[1]}">${name}</text>`;
    element("marks").innerHTML = line + here + pin + end(a, "A") + end(b, "B");
  }

  function sayWhere() {
    const how = state.pinned
      ? "Pinned: click into the plane to let it follow the pointer again."
      : "Follows the pointer: click into the plane to pin it.";
    const some = data.frames.total > points.length ? `${points.length} of ${data.frames.total}` : `${points.length}`;
    element("point").textContent = `z = ${format(state.z)}. ${how} Points: ${some} frames.`;
  }

  // ---- the structure ----

  const MANY_ATOMS = 400;
  // Of the panel's width; the rest is for the colors' meaning.
  const SHARE = 0.86;
  const ELEMENT_COLORS = {
    H: "#e6e6e6", C: "#4d4d4d", N: "#0072b2", O: "#d55e00", S: "#f0e442", P: "#e69f00", Se: "#e69f00",
    F: "#009e73", Cl: "#009e73", Br: "#009e73", "": "#cc79a7", VS: "#56b4e9",
  };
  const colorOf = (symbol) => ELEMENT_COLORS[symbol] ?? "#cc79a7";
  const BOND_COLORS = [[0, "#b4bbc3"], [0.5, "#e69f00"], [1, "#8c1c00"]];
  const drawsAtoms = nAtoms <= MANY_ATOMS;
  // In pixels.
  const [atomSize, bondWidth] = nAtoms <= 40 ? [16, 9] : nAtoms <= 120 ? [10, 6] : [7, 4];

  // Lines that are apart are one trace with gaps. Where atoms are drawn, lines end at them and do not cover them.
  function bondTrace(coordinates, measures) {
    const inset = drawsAtoms ? 0.12 : 0;
    const ends = measures.flatMap(({ bond }) => {
      const [u, v] = [position(coordinates, bond.first), position(coordinates, bond.second)];
      const between = (share) => sum(times(1 - share, u), times(share, v));
      return [between(inset), between(1 - inset), [null, null, null]];
    });
    const at = (k) => ends.map((end) => end[k]);
    return {
      type: "scatter3d", mode: "lines", x: at(0), y: at(1), z: at(2), hoverinfo: "skip", connectgaps: false,
      line: {
        width: bondWidth, color: measures.flatMap(({ off }) => new Array(3).fill(Math.min(off, BROKEN))),
        cmin: 0, cmax: BROKEN, colorscale: BOND_COLORS, showscale: true,
        colorbar: {
          title: { text: "bond length off the data (standard deviations)", side: "right" }, thickness: 12, len: 0.92,
          outlinewidth: 0, tickvals: [0, 1, 2, 3, 4, 5], ticktext: ["0", "1", "2", "3", "4", "≥ 5 "], x: 1, xpad: 4,
        },
      },
    };
  }

  function atomTrace(coordinates) {
    const at = (k) => atoms.map((_, atom) => position(coordinates, atom)[k]);
    return {
      type: "scatter3d", mode: "markers", x: at(0), y: at(1), z: at(2), text: atoms.map((_, atom) => atomName(atom)),
      hovertemplate: `%{text}<br>%{x:.3f}, %{y:.3f}, %{z:.3f}${unit && ` ${unit}`}<extra></extra>`,
      marker: {
        size: atoms.map(([, symbol]) => (symbol === "H" ? 0.7 : 1) * atomSize), opacity: 1,
        color: atoms.map(([, symbol]) => colorOf(symbol)), line: { color: "#333", width: 1 },
      },
    };
  }

  // A cube that is fixed, so that nothing jumps, seen from where the frames of the data fill the view.
  function structureLayout() {
    const { box, radius } = data.view;
    const side = { range: [-box, box], visible: false, showspikes: false };
    const { clientWidth, clientHeight } = element("structure");
    const distance = 1.3 * (radius / box) * Math.max(1, clientHeight / (SHARE * clientWidth));
    const eye = dim === 2 ? [0, 0, 1] : direction([0.35, -0.45, 1]);
    const [x, y, z] = times(distance, eye);
    return {
      margin: { l: 0, r: 0, t: 0, b: 0 }, showlegend: false, font: { size: 12 }, uirevision: "one",
      scene: {
        xaxis: side, yaxis: side, zaxis: side, aspectmode: "cube", dragmode: "orbit",
        domain: { x: [0, SHARE], y: [0, 1] },
        camera: { eye: { x, y, z }, up: { x: 0, y: 1, z: 0 }, center: { x: 0, y: 0, z: 0 } },
      },
    };
  }

  const structureConfig = {
    responsive: true, displaylogo: false, modeBarButtons: [["resetCameraDefault3d", "toImage"]],
    toImageButtonOptions: { filename: "structure", scale: 2 },
  };

  function drawStructure() {
    const drawing = element("structure");
    const measures = measured(state.coordinates);
    const traces = [bondTrace(state.coordinates, measures)];
    if (drawsAtoms) traces.push(atomTrace(state.coordinates));
    Plotly.react(drawing, traces, drawing.layout ?? structureLayout(), structureConfig);
    element("verdict").textContent = verdict(measures);
  }

  function verdict(measures) {
    if (!measures.length) return "";
    const broken = measures.filter(({ off }) => off > BROKEN).length;
    const worst = measures.reduce((a, b) => (b.off > a.off ? b : a));
    const { first, second, held, mean, spread, smallest, largest } = worst.bond;
    const usual = held
      ? `${rounded(mean, 4)}\u00a0±\u00a0${length(spread)}`
      : `${rounded(smallest, 4)} to ${length(largest)}`;
    const are = broken === 1 ? "is" : "are";
    const count = `${broken} of ${bonds.length} bonds ${are} off by more than ${BROKEN} standard deviations.`;
    const name = `${atomName(first)} – ${atomName(second)}`;
    const farthest = `Farthest off: ${name} by ${rounded(worst.off, 1)}`;
    return worst.off > 0 ? `${count} ${farthest} (${length(worst.length)}; in the data ${usual}).` : count;
  }

  // ---- what listens ----

  // Where others are drawn than the plane's two, a slider each.
  function makeOthers() {
    const place = element("others");
    place.hidden = latentDim < 3;
    place.querySelectorAll("label").forEach((label) => label.remove());
    for (let k = 0; k < latentDim; k++) {
      if (latentDim < 3 || k === state.across || k === state.up) continue;
      const label = document.createElement("label");
      const slide = `<input type="range" step="any" data-k="${k}">`;
      label.innerHTML = `<span>z<sub>${k + 1}</sub></span>${slide}<output></output>`;
      const slider = label.querySelector("input");
      [slider.min, slider.max] = limits[k];
      slider.addEventListener("input", () => {
        hold();
        show(state.z.map((value, i) => (i === k ? slider.valueAsNumber : value)));
      });
      place.append(label);
    }
  }

  function setOthers() {
    for (const slider of element("others").querySelectorAll("input")) {
      slider.value = state.z[slider.dataset.k];
      slider.nextElementSibling.textContent = rounded(state.z[slider.dataset.k], 2);
    }
  }

  function makeAxes() {
    element("axes").hidden = latentDim < 3;
    for (const name of ["across", "up"]) {
      const choice = element(name);
      for (let k = 0; k < latentDim; k++) choice.add(new Option(`z${k + 1}`, k));
      choice.addEventListener("change", () => turnTo(name, Number(choice.value)));
    }
    setAxes();
  }

  // The same dimension on both axes would be a line: the other one then takes what this one had.
  function turnTo(name, k) {
    const other = name === "across" ? "up" : "across";
    if (state[other] === k) state[other] = state[name];
    state[name] = k;
    setAxes();
    drawPlane();
    makeOthers();
    show(state.z);
  }

  function setAxes() {
    for (const name of ["across", "up"]) element(name).value = state[name];
  }

  // Once chosen by other means than the pointer, a point stays until the plane is clicked.
  function hold() {
    stop();
    state.pinned = true;
  }

  function listenToPointer() {
    let event = null;
    const area = element("plane-area");
    const follow = () => {
      const z = state.pinned ? null : underPointer(event);
      event = null;
      if (z !== null) show(z);
    };
    area.addEventListener("pointermove", (moved) => {
      // At most once a picture, however fast the pointer reports.
      if (event === null) requestAnimationFrame(follow);
      event = moved;
    });
    area.addEventListener("click", (clicked) => {
      const z = underPointer(clicked);
      if (z === null) return;
      stop();
      state.pinned = !state.pinned;
      show(z);
    });
  }

  const SECONDS = 6;

  function alongPath(share) {
    const [a, b] = state.ends;
    element("along").value = share;
    show(sum(times(1 - share, a), times(share, b)));
  }

  function walk() {
    if (state.playing !== null) {
      stop();
      return;
    }
    hold();
    const slider = element("along");
    let share = slider.valueAsNumber < 1 ? slider.valueAsNumber : 0;
    let before = null;
    const step = (now) => {
      share = Math.min(1, share + (before === null ? 0 : (now - before) / (1000 * SECONDS)));
      before = now;
      state.playing = requestAnimationFrame(step);
      alongPath(share);
      if (share === 1) stop();
    };
    state.playing = requestAnimationFrame(step);
    setWalk("Stop", true);
  }

  function stop() {
    if (state.playing !== null) cancelAnimationFrame(state.playing);
    state.playing = null;
    setWalk("Walk", false);
  }

  function setWalk(text, pressed) {
    element("walk").textContent = text;
    element("walk").setAttribute("aria-pressed", pressed);
  }

  function listenToWalk() {
    ["from", "to"].forEach((name, k) => element(name).addEventListener("click", () => {
      state.ends[k] = state.z.slice();
      element("along").value = k;
      drawMarks();
    }));
    element("walk").addEventListener("click", walk);
    element("along").addEventListener("input", () => {
      hold();
      alongPath(element("along").valueAsNumber);
    });
  }

  function jump(k) {
    const { numbers, total, trajectory, within } = data.frames;
    hold();
    show(points[k]);
    element("frame").value = numbers[k];
    element("shown").value = k;
    const part = trajectory ? `; frame ${within[k]} of trajectory ${trajectory[k]}` : "";
    element("frame-name").textContent = `Frame ${numbers[k]} of ${total}, from 0${part}.`;
  }

  function listenToFrames() {
    const { numbers, total } = data.frames;
    element("frame").max = total - 1;
    element("frame").value = numbers[0];
    element("shown").max = numbers.length - 1;
    element("shown").addEventListener("input", () => jump(element("shown").valueAsNumber));
    element("frame").addEventListener("change", () => {
      const wanted = element("frame").valueAsNumber;
      if (Number.isNaN(wanted)) return;
      const away = numbers.map((number) => Math.abs(number - wanted));
      jump(away.indexOf(Math.min(...away)));
    });
  }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([pdb(state)], { type: "chemical/x-pdb" }));
    link.download = "structure.pdb";
    link.click();
    URL.revokeObjectURL(link.href);
  }

  function nameElements() {
    const symbols = new Set(atoms.map(([, symbol]) => symbol));
    if (!drawsAtoms) return;
    for (const symbol of [...symbols].sort()) {
      if (symbol === "" || symbol === "VS") continue;
      const entry = document.createElement("span");
      const dot = document.createElement("i");
      dot.style.background = colorOf(symbol);
      entry.append(dot, symbol);
      element("elements").append(entry);
    }
  }

  makeAxes();
  makeOthers();
  nameElements();
  drawPlane();
  show(state.ends[0]);
  listenToPointer();
  listenToWalk();
  listenToFrames();
  element("save").addEventListener("click", save);
  window.addEventListener("resize", drawMarks);
  window.mdvae = {
    decode,
    show,
    current: () => ({ z: state.z.slice(), coordinates: state.coordinates.slice() }),
  };
})();
