(function () {
  const figure = document.currentScript.parentElement;
  const data = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
  const svg = figure.querySelector("svg"), about = figure.querySelector('[data-out="about"]');
  const choice = name => figure.querySelector('[data-choice="' + name + '"]');
  const layer = choice("layer"), head = choice("head"), threshold = choice("threshold");
  const sum = data.particles.reduce((total, p) => total + p[0], 0) || 1;
  const reach = 1.12 * Math.max(0.05, ...data.particles.map(p => Math.max(Math.abs(p[1]), Math.abs(p[2]))));
  const x = y => 300 * y / reach, y = phi => -300 * phi / reach;
  let chosen = null;

  function make(name, attributes, parent) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    parent.appendChild(element);
    return element;
  }
  const shapes = {  // of area about 4 r^2, where r = 1
    "charged hadron": "M0,-1.3L1.3,1H-1.3Z", "neutral hadron": "M0,1.3L1.3,-1H-1.3Z",
    "photon": "M-1.1,0A1.1,1.1 0 1,0 1.1,0A1.1,1.1 0 1,0 -1.1,0Z",
    "electron": "M-.4,-1.2H.4V-.4H1.2V.4H.4V1.2H-.4V.4H-1.2V-.4H-.4Z",
    "muon": "M-1.1,-.55L-.55,-1.1L0,-.55L.55,-1.1L1.1,-.55L.55,0L1.1,.55L.55,1.1L0,.55L-.55,1.1L-1.1,.55L-.55,0Z",
    "other": "M-1,-1H1V1H-1Z"
  };
  data.hulls.forEach((corners, k) => make("polygon", {
    points: corners.map(c => x(c[0]) + "," + y(c[1])).join(" "), fill: data.colours.subjets[k % 3],
    stroke: data.colours.subjets[k % 3], "stroke-width": 14, "stroke-linejoin": "round", opacity: 0.16
  }, svg));
  const lines = make("g", {}, svg), dots = make("g", {}, svg);
  figure.querySelector('[data-out="axes"]').textContent = "\u0394y (to the right) and \u0394\u03c6 (up, in rad) from " +
    (-reach).toFixed(2) + " to " + reach.toFixed(2) + ".";
  data.particles.forEach((p, k) => {
    const r = 4 + 22 * Math.sqrt(p[0] / sum);
    const dot = make("path", {
      d: shapes[data.kinds[p[3]]], fill: "#666", stroke: "#000", "stroke-width": 1.2 / r, "data-particle": k,
      transform: "translate(" + x(p[1]) + "," + y(p[2]) + ") scale(" + r / 1.3 + ")"
    }, dots);
    dot.addEventListener("mouseenter", () => { chosen = k; draw(); });
    dot.addEventListener("mouseleave", () => { chosen = null; draw(); });
    dot.addEventListener("click", () => { chosen = k; draw(); });
  });

  function heads() {
    const before = head.value;
    head.replaceChildren();
    const number = data.layers.length ? data.layers[+layer.value][1].length : 0;
    for (let k = 0; k < number; k++) head.add(new Option(k + 1, k));
    if (+before < number && before !== "") head.value = before;
  }
  function draw() {
    lines.replaceChildren();
    const least = +threshold.value, partners = [];
    figure.querySelector('[data-out="threshold"]').textContent = least.toFixed(2);
    let shown = 0;
    if (data.layers.length) {
      const [graph, all] = data.layers[+layer.value], [sources, targets, within] = data.graphs[graph];
      all[+head.value].forEach((w, e) => {
        const s = sources[e], t = targets[e], size = Math.abs(w);
        if (size < least || size === 0 || (chosen !== null && s !== chosen && t !== chosen)) return;
        if (chosen !== null) partners.push([size, w, s, t]);
        if (s === t) return;
        shown++;
        const a = data.particles[s], b = data.particles[t], strength = Math.min(size, 1);
        const line = make("line", {
          x1: x(a[1]), y1: y(a[2]), x2: x(b[1]), y2: y(b[2]), "stroke-width": 0.6 + 5 * strength,
          stroke: w < 0 ? data.colours.negative : data.colours.positive, opacity: 0.2 + 0.7 * strength
        }, lines);
        if (!within[e]) line.setAttribute("stroke-dasharray", "7 5");
      });
    }
    dots.childNodes.forEach((dot, k) => dot.setAttribute("fill", k === chosen ? "#000" : "#666"));
    if (chosen === null) {
      about.textContent = data.particles.length + " particles, " + shown + " edges between two of them are shown. " +
        "Point at a particle for its own.";
      return;
    }
    const p = data.particles[chosen];
    partners.sort((one, other) => other[0] - one[0]);
    const text = partners.slice(0, 8).map(([, w, s, t]) => s === t ? "itself " + w :
      (t === chosen ? "takes from " + s : "gives to " + t) + " " + w);
    about.textContent = "Particle " + chosen + ": pT = " + p[0] + " GeV, " +
      (data.known ? data.kinds[p[3]] : "species not known") + ", \u0394y = " + p[1] + ", \u0394\u03c6 = " + p[2] +
      ". " + (text.length ? "Strongest of " + partners.length + " edges: " + text.join("; ") : "No edge is shown") +
      ".";
  }
  data.layers.forEach((_, k) => layer.add(new Option(k + 1, k)));
  if (data.layers.length) layer.value = data.layers.length - 1;
  layer.addEventListener("change", () => { heads(); draw(); });
  head.addEventListener("change", draw);
  threshold.addEventListener("input", draw);
  heads();
  draw();
})();
