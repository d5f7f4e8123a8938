"use strict";
(() => {
  const LIGHT = ["#0072b2", "#d55e00", "#009e73", "#aa3377", "#997700", "#3b9fd6", "#555555", "#000000"];
  const DARK = ["#58a6ff", "#ff9e64", "#3fc79a", "#e78ac3", "#e3c34d", "#8fd3ff", "#b3b3b3", "#ffffff"];
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const SMALL = 1e-9;
  let printing = false;

  const dark = () => prefersDark.matches && !printing;
  const color = (at) => at < 0 ? ink() : (dark() ? DARK : LIGHT)[at % LIGHT.length];
  const ink = () => dark() ? "#e6edf3" : "#1b1f24";
  const rule = () => dark() ? "#2b3138" : "#e3e7eb";

  const short = (value, digits = 3) => String(Number(value.toPrecision(digits)));
  function number(value) {
    const size = Math.abs(value);
    if (size >= 1e9) return short(value / 1e9) + "G";
    if (size >= 1e6) return short(value / 1e6) + "M";
    if (size >= 1e4) return short(value / 1e3) + "k";
    return short(value, 4);
  }
  const UNITS = {
    s: (value) => value >= 1 || value === 0 ? number(value) + " s" : value >= 1e-3 ? short(value * 1e3) + " ms" : short(value * 1e6) + " µs",
    share: (value) => short(value * 100) + " %",
    number,
  };
  const shown = (axis) => (value) => value === null || value === undefined ? "-" : UNITS[axis.unit](value);

  // A logarithmic axis begins and ends at one significant digit: uPlot counts its ticks from there.
  function wholeDigits(_plot, low, high) {
    const rounded = (value, round) => {
      const power = Math.floor(Math.log10(value) + SMALL);
      return Number(`${round(value / 10 ** power)}e${power}`);
    };
    const from = rounded(low, (digit) => Math.floor(digit + SMALL)), to = rounded(high, (digit) => Math.ceil(digit - SMALL));
    return [from, to > from ? to : 2 * from];
  }

  // Of a logarithmic axis only powers of ten are labelled, unless there are too few of them.
  function ticks(axis, log) {
    return (_plot, values) => {
      const known = values.filter((value) => value !== null);
      const sparse = log && known.length > 0 && Math.log10(known[known.length - 1] / known[0]) < 1.2;
      return values.map((value) => {
        if (value === null) return "";
        if (!log) return shown(axis)(value);
        const digit = Math.round(value / 10 ** Math.floor(Math.log10(value) + SMALL));
        return digit === 1 || (sparse && (digit === 2 || digit === 5)) ? shown(axis)(value) : "";
      });
    };
  }

  function marks(found) {
    return (plot) => {
      const { ctx, bbox } = plot;
      ctx.save();
      ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
      ctx.lineWidth = devicePixelRatio;
      ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
      found.forEach((mark, place) => {
        const x = plot.valToPos(mark.at, "x", true);
        if (!(x >= bbox.left && x <= bbox.left + bbox.width)) return;
        ctx.strokeStyle = ctx.fillStyle = color(mark.color);
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
        const right = x + ctx.measureText(mark.label).width + 8 * devicePixelRatio < bbox.left + bbox.width;
        ctx.textAlign = right ? "left" : "right";
        ctx.fillText(mark.label, x + (right ? 4 : -4) * devicePixelRatio, bbox.top + (12 + 13 * place) * devicePixelRatio);
      });
      ctx.restore();
    };
  }

  class Figure {
    constructor(element) {
      this.element = element;
      this.place = element.querySelector(".plot");
      this.chart = charts[element.dataset.chart];
      this.log = { x: this.chart.x_axis.log, y: this.chart.y_axis.log };
      this.reset = element.querySelector("[data-reset]");
      this.reset.addEventListener("click", () => this.whole());
      for (const button of element.querySelectorAll("[data-scale]")) {
        button.addEventListener("click", () => {
          const axis = button.dataset.scale;
          this.log[axis] = !this.log[axis];
          button.setAttribute("aria-pressed", String(this.log[axis]));
          this.draw();
        });
      }
      this.draw();
    }

    size() {
      return { width: Math.max(this.place.clientWidth, 200), height: 250 };
    }

    whole() {
      const x = this.chart.data[0];
      this.plot.setScale("x", { min: x[0], max: x[x.length - 1] });
    }

    zoomed() {
      const x = this.chart.data[0], { min, max } = this.plot.scales.x;
      if (min !== null && max !== null) this.reset.disabled = min <= x[0] && max >= x[x.length - 1];
    }

    draw() {
      const { x_axis, y_axis, series, data, together } = this.chart;
      const hidden = this.plot ? this.plot.series.map((one) => !one.show) : [];
      if (this.plot) this.plot.destroy();
      const axis = (about, log) => ({
        label: about.label, labelSize: 20, labelFont: "12px system-ui, sans-serif", font: "11px system-ui, sans-serif",
        stroke: ink, grid: { stroke: rule, width: 1 }, ticks: { stroke: rule, width: 1 }, values: ticks(about, log),
        ...(log ? { filter: (_p, splits) => splits } : {}),
      });
      const scale = (log) => log ? { distr: 3, log: 10 } : {};
      const options = {
        ...this.size(),
        scales: { x: { ...scale(this.log.x), time: false, range: this.log.x ? wholeDigits : (_p, low, high) => [low, high > low ? high : low + 1] }, y: this.log.y ? scale(true) : { range: (_p, low, high) => [Math.min(0, low ?? 0), (high ?? 1) * 1.05 || 1] } },
        axes: [axis(x_axis, this.log.x), { ...axis(y_axis, this.log.y), size: 62 }],
        series: [
          { label: x_axis.label, value: (_p, value) => shown(x_axis)(value) },
          ...series.map((one, place) => ({
            label: one.label, stroke: () => color(one.color), width: 1.7, dash: one.dashed ? [6, 4] : undefined,
            points: { show: false }, show: !hidden[place + 1], value: (_p, value) => shown(y_axis)(value),
          })),
        ],
        cursor: { drag: { x: true, y: false }, sync: together ? { key: together } : undefined },
        hooks: { draw: [marks(this.chart.marks)], setScale: [(plot, key) => { if (key === "x" && plot === this.plot) this.zoomed(); }] },
      };
      this.plot = new uPlot(options, data, this.place);
      this.zoomed();
    }

    fit() {
      const { width, height } = this.size();
      if (Math.abs(width - this.plot.width) > 1) this.plot.setSize({ width, height });
    }
  }

  const figures = [...document.querySelectorAll("figure[data-chart]")].map((element) => new Figure(element));
  const fit = () => figures.forEach((figure) => figure.fit());
  const redraw = () => figures.forEach((figure) => figure.draw());
  new ResizeObserver(() => requestAnimationFrame(fit)).observe(document.querySelector("main"));
  prefersDark.addEventListener("change", redraw);

  // Paper is white and narrow, and shows what is folded away on a screen.
  const folded = [...document.querySelectorAll("details")];
  let open = [];
  function print(now) {
    if (now === printing) return;
    printing = now;
    if (now) open = folded.map((one) => one.open);
    folded.forEach((one, place) => { one.open = now || open[place]; });
    redraw();
  }
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
  matchMedia("print").addEventListener("change", (event) => print(event.matches));

  // Bars: a figure for each part on hover, focus or touch; a name in the legend shows its parts alone.
  const tip = document.getElementById("tip");
  function tell(segment) {
    tip.hidden = !segment;
    if (!segment) return;
    tip.textContent = segment.dataset.tip;
    const box = segment.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, box.left + box.width / 2 - own.width / 2), document.documentElement.clientWidth - own.width - 8);
    tip.style.left = `${left}px`;
    tip.style.top = `${box.top > own.height + 12 ? box.top - own.height - 6 : box.bottom + 6}px`;
  }
  const segmentOf = (event) => event.target instanceof Element ? event.target.closest(".segment") : null;
  for (const kind of ["pointerover", "focusin", "click"]) addEventListener(kind, (event) => tell(segmentOf(event)));
  addEventListener("focusout", () => tell(null));
  addEventListener("scroll", () => tell(null), { passive: true });
  for (const bars of document.querySelectorAll(".bars")) {
    const buttons = [...bars.querySelectorAll(".legend button")];
    for (const button of buttons) {
      button.addEventListener("click", () => {
        const chosen = button.getAttribute("aria-pressed") !== "true";
        for (const other of buttons) other.setAttribute("aria-pressed", String(chosen && other === button));
        for (const segment of bars.querySelectorAll(".segment")) {
          segment.classList.toggle("faded", chosen && segment.dataset.name !== button.dataset.name);
        }
      });
    }
  }
})();
