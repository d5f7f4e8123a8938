"use strict";
(() => {
  const LIGHT = ["#0072b2", "#d55e00", "#009e73", "#aa3377", "#997700", "#3b9fd6", "#555555", "#000000"];
  const DARK = ["#58a6ff", "#ff9e64", "#3fc79a", "#e78ac3", "#e3c34d", "#8fd3ff", "#b3b3b3", "#ffffff"];
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const SMALL = 1e-9, NEAR_PX = 40;
  let printing = false;

  const dark = () => prefersDark.matches && !printing;
  const color = (at) => at < 0 ? ink() : (dark() ? DARK : LIGHT)[at % LIGHT.length];
  const ink = () => dark() ? "#e6edf3" : "#1b1f24";
  const bad = () => dark() ? "#ff8d83" : "#b42318";
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

  // Straight lines at objectives, along either axis.
  function marks(found) {
    return (plot) => {
      const { ctx, bbox } = plot, ratio = devicePixelRatio;
      ctx.save();
      ctx.font = `${11 * ratio}px system-ui, sans-serif`;
      ctx.lineWidth = ratio;
      ctx.setLineDash([5 * ratio, 4 * ratio]);
      found.forEach((mark, place) => {
        const at = plot.valToPos(mark.at, mark.axis, true), upright = mark.axis === "x";
        const start = upright ? bbox.left : bbox.top, length = upright ? bbox.width : bbox.height;
        if (!(at >= start && at <= start + length)) return;
        ctx.strokeStyle = ctx.fillStyle = color(mark.color);
        ctx.beginPath();
        ctx.moveTo(...(upright ? [at, bbox.top] : [bbox.left, at]));
        ctx.lineTo(...(upright ? [at, bbox.top + bbox.height] : [bbox.left + bbox.width, at]));
        ctx.stroke();
        const right = !upright || at + ctx.measureText(mark.label).width + 8 * ratio < bbox.left + bbox.width;
        ctx.textAlign = right ? "left" : "right";
        const [x, y] = upright ? [at + (right ? 4 : -4) * ratio, bbox.top + (12 + 13 * place) * ratio] : [bbox.left + 4 * ratio, at - 4 * ratio];
        ctx.fillText(mark.label, x, y);
      });
      ctx.restore();
    };
  }

  // What lies behind the lines: the stretch that is shaded, and intervals as bands.
  function behind(chart) {
    return (plot) => {
      const { ctx, bbox } = plot, ratio = devicePixelRatio;
      ctx.save();
      ctx.beginPath();
      ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
      ctx.clip();
      if (chart.shade) {
        const from = plot.valToPos(chart.shade.start, "x", true), to = plot.valToPos(chart.shade.end, "x", true);
        ctx.fillStyle = ctx.strokeStyle = bad();
        ctx.globalAlpha = 0.08;
        ctx.fillRect(from, bbox.top, to - from, bbox.height);
        ctx.globalAlpha = 1;
        ctx.font = `${11 * ratio}px system-ui, sans-serif`;
        ctx.fillText(chart.shade.label, Math.max(from, bbox.left) + 4 * ratio, bbox.top + bbox.height - 6 * ratio);
      }
      chart.series.forEach((one, place) => {
        if (!one.band || !plot.series[place + 1].show) return;
        const [low, high] = one.band, known = low.map((_, at) => at).filter((at) => low[at] !== null && high[at] !== null);
        if (!known.length) return;
        const points = [...known.map((at) => [at, high[at]]), ...known.reverse().map((at) => [at, low[at]])];
        ctx.fillStyle = color(one.color);
        ctx.globalAlpha = 0.2;
        ctx.beginPath();
        for (const [at, value] of points) ctx.lineTo(plot.valToPos(chart.data[0][at], "x", true), plot.valToPos(value, "y", true));
        ctx.fill();
      });
      ctx.restore();
    };
  }

  // Crosses over values that are not to be trusted.
  function crosses(chart) {
    return (plot) => {
      const { ctx } = plot, size = 4 * devicePixelRatio;
      ctx.save();
      ctx.strokeStyle = bad();
      ctx.lineWidth = 2 * devicePixelRatio;
      chart.series.forEach((one, place) => {
        if (!one.crossed || !plot.series[place + 1].show) return;
        for (const at of one.crossed) {
          const value = chart.data[place + 1][at];
          if (value === null || !within(plot.scales.x, chart.data[0][at]) || !within(plot.scales.y, value)) continue;
          const x = plot.valToPos(chart.data[0][at], "x", true), y = plot.valToPos(value, "y", true);
          ctx.beginPath();
          ctx.moveTo(x - size, y - size);
          ctx.lineTo(x + size, y + size);
          ctx.moveTo(x - size, y + size);
          ctx.lineTo(x + size, y - size);
          ctx.stroke();
        }
      });
      ctx.restore();
    };
  }

  const within = (scale, value) => value >= scale.min && value <= scale.max;

  const tip = document.getElementById("tip");
  function tellAt(text, box) {
    tip.hidden = false;
    tip.textContent = text;
    const own = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, box.left + box.width / 2 - own.width / 2), document.documentElement.clientWidth - own.width - 8);
    tip.style.left = `${left}px`;
    tip.style.top = `${box.top > own.height + 12 ? box.top - own.height - 6 : box.bottom + 6}px`;
  }

  class Figure {
    constructor(element) {
      this.element = element;
      this.place = element.querySelector(".plot");
      this.chart = charts[element.dataset.chart];
      this.log = { x: this.chart.x_axis.log, y: this.chart.y_axis.log };
      this.reset = element.querySelector("[data-reset]");
      this.hidden = [];
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

    // The values of y in view, bands included: what the axis has to hold.
    extent(low, high) {
      const ends = [low, high], { min, max } = this.plot ? this.plot.scales.x : { min: -Infinity, max: Infinity };
      this.chart.series.forEach((one, place) => {
        if (!one.band || (this.plot ? !this.plot.series[place + 1].show : this.hidden[place + 1])) return;
        for (const side of one.band) side.forEach((value, at) => { if (within({ min, max }, this.chart.data[0][at])) ends.push(value); });
      });
      const known = ends.filter((value) => value !== null && value !== undefined && (!this.log.y || value > 0));
      return known.length ? [Math.min(...known), Math.max(...known)] : [null, null];
    }

    scaleY() {
      if (!this.log.y) {
        return { range: (_p, low, high) => { const [from, to] = this.extent(low, high); return [Math.min(0, from ?? 0), (to ?? 1) * 1.05 || 1]; } };
      }
      const whole = (plot, low, high) => { const [from, to] = this.extent(low, high); return from === null ? [1, 10] : wholeDigits(plot, from, to); };
      return { distr: 3, log: 10, ...(this.chart.series.some((one) => one.band) ? { range: whole } : {}) };
    }

    // A value with its interval.
    words(one, value, at) {
      const text = shown(this.chart.y_axis)(value);
      if (!one.band || at === null || at === undefined || one.band[0][at] === null) return text;
      return `${text} (${one.band.map((side) => shown(this.chart.y_axis)(side[at])).join(" to ")})`;
    }

    // The note of the point that the pointer is nearest to.
    note(plot) {
      const { left, top } = plot.cursor, { data, notes, series } = this.chart;
      let best = NEAR_PX, found = null;
      if (left >= 0) {
        series.forEach((_, place) => data[place + 1].forEach((value, at) => {
          if (value === null || !plot.series[place + 1].show) return;
          const x = plot.valToPos(data[0][at], "x"), y = plot.valToPos(value, "y"), away = Math.hypot(x - left, y - top);
          if (away < best) [best, found] = [away, { x, y, at }];
        }));
      }
      const box = plot.over.getBoundingClientRect();
      if (found) tellAt(notes[found.at], { left: box.left + found.x - 4, top: box.top + found.y - 4, width: 8, bottom: box.top + found.y + 4 });
      else if (this.noted) tell(null);
      this.noted = Boolean(found);
    }

    draw() {
      const { x_axis, y_axis, series, data, together, notes } = this.chart;
      if (this.plot) {
        this.hidden = this.plot.series.map((one) => !one.show);
        this.plot.destroy();
        this.plot = null;
      }
      const axis = (about, log) => ({
        label: about.label, labelSize: 20, labelFont: "12px system-ui, sans-serif", font: "11px system-ui, sans-serif",
        stroke: ink, grid: { stroke: rule, width: 1 }, ticks: { stroke: rule, width: 1 }, values: ticks(about, log),
        ...(log ? { filter: (_p, splits) => splits } : {}),
      });
      const scale = (log) => log ? { distr: 3, log: 10 } : {};
      const options = {
        ...this.size(),
        scales: { x: { ...scale(this.log.x), time: false, range: this.log.x ? wholeDigits : (_p, low, high) => [low, high > low ? high : low + 1] }, y: this.scaleY() },
        axes: [axis(x_axis, this.log.x), { ...axis(y_axis, this.log.y), size: 62 }],
        series: [
          { label: x_axis.label, value: (_p, value) => shown(x_axis)(value) },
          ...series.map((one, place) => ({
            label: one.label, stroke: () => color(one.color), width: 1.7, dash: one.dashed ? [6, 4] : undefined,
            points: { show: one.look !== "line", size: one.look === "points" ? 7 : 6, fill: () => color(one.color) }, spanGaps: one.look === "both",
            ...(one.look === "points" ? { paths: () => null } : {}),
            show: !this.hidden[place + 1], value: (_p, value, _place, at) => this.words(one, value, at),
          })),
        ],
        cursor: { drag: { x: true, y: false }, sync: together ? { key: together } : undefined },
        hooks: {
          drawAxes: [behind(this.chart)], draw: [crosses(this.chart), marks(this.chart.marks)],
          ...(notes.length ? { setCursor: [(plot) => this.note(plot)] } : {}),
          setScale: [(plot, key) => { if (key === "x" && plot === this.plot) this.zoomed(); }],
        },
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

  // Of groups of charts one shows at a time.
  for (const views of document.querySelectorAll("[data-views]")) {
    const buttons = [...views.querySelectorAll("[data-view]")];
    for (const button of buttons) {
      button.addEventListener("click", () => {
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        for (const group of views.querySelectorAll("[data-group]")) group.hidden = group.dataset.group !== button.dataset.view;
        fit();
      });
    }
  }

  // A figure for each part of a bar, or row of intervals, on hover, focus or touch; a name in a legend shows its parts alone.
  function tell(segment) {
    if (segment) tellAt(segment.dataset.tip, segment.getBoundingClientRect());
    else tip.hidden = true;
  }
  const ofChart = (event) => event.target instanceof Element && event.target.closest(".u-over") !== null;
  const segmentOf = (event) => event.target instanceof Element ? event.target.closest("[data-tip]") : null;
  for (const kind of ["pointerover", "focusin", "click"]) addEventListener(kind, (event) => { if (!ofChart(event)) tell(segmentOf(event)); });
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
