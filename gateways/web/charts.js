// Drawings on canvas: candles with volume, depth, the forward curve. Prices become pixels here, and only here numbers
// that are not exact.

const AXIS = 58; // px at the right, for prices
const FOOT = 18; // px below, for times
const CANDLE = 8; // px each

/** @typedef {{context: CanvasRenderingContext2D, width: number, height: number, colour: (name: string) => string}} Sheet */

/** A blank canvas at the screen's own resolution. @param {HTMLCanvasElement} canvas @returns {Sheet} */
function sheet(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const ratio = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const style = getComputedStyle(canvas);
  context.font = `11px ${style.fontFamily}`;
  context.textBaseline = "middle";
  return { context, width, height, colour: (name) => style.getPropertyValue(`--${name}`).trim() };
}

/** How many candles there is room for. @param {HTMLCanvasElement} canvas */
export function candlesShown(canvas) {
  return Math.max(1, Math.floor((canvas.clientWidth - AXIS) / CANDLE));
}

/**
 * The newest candles, side by side, volume below; an interval without fills has none and no gap.
 * @param {HTMLCanvasElement} canvas
 * @param {any[]} candles as many as there is room for
 * @param {number} marked which of them is marked; -1: none
 */
export function drawCandles(canvas, candles, marked) {
  const { context, width, height, colour } = sheet(canvas);
  if (!candles.length) return nothing(context, width, height, colour, "No trades yet");
  const volumes = candles.map((each) => Number(each.gpu_hours));
  const room = { top: 8, bottom: height - FOOT - (height - FOOT) * 0.22 };
  const low = Math.min(...candles.map((each) => Number(each.low)));
  const high = Math.max(...candles.map((each) => Number(each.high)));
  const y = scale(low, high, room.bottom, room.top);
  prices(context, width, colour, y, low, high);
  const left = Math.max(0, width - AXIS - candles.length * CANDLE);
  const most = Math.max(...volumes, 1e-9);
  candles.forEach((candle, place) => {
    const x = left + place * CANDLE;
    const rose = Number(candle.close) >= Number(candle.open);
    context.fillStyle = colour(rose ? "up" : "down");
    context.fillRect(x + CANDLE / 2 - 0.5, y(Number(candle.high)), 1, Math.max(1, y(Number(candle.low)) - y(Number(candle.high))));
    const top = y(Math.max(Number(candle.open), Number(candle.close)));
    context.fillRect(x + 1, top, CANDLE - 2, Math.max(1, y(Math.min(Number(candle.open), Number(candle.close))) - top));
    context.globalAlpha = 0.45;
    const bar = Math.max(1, (volumes[place] / most) * (height - FOOT - room.bottom - 6));
    context.fillRect(x + 1, height - FOOT - bar, CANDLE - 2, bar);
    context.globalAlpha = 1;
    if (place === marked) {
      context.fillStyle = colour("muted");
      context.fillRect(x + CANDLE / 2 - 0.5, 0, 1, height - FOOT);
    }
  });
  context.fillStyle = colour("muted");
  context.textAlign = "left";
  for (let place = candles.length - 1; place >= 0; place -= 12) {
    const x = left + place * CANDLE;
    if (x < 40 || x > width - AXIS - 8) continue;
    context.textAlign = "right";
    context.fillText(`${candles[place].start.slice(5, 10)} ${candles[place].start.slice(11, 16)}`, x + CANDLE, height - FOOT / 2);
  }
}

/** Which candle is at that place of the canvas. @param {HTMLCanvasElement} canvas @param {number} shown @param {number} x px */
export function candleAt(canvas, shown, x) {
  const left = Math.max(0, canvas.clientWidth - AXIS - shown * CANDLE);
  const place = Math.floor((x - left) / CANDLE);
  return place >= 0 && place < shown ? place : -1;
}

/**
 * How many GPUs can be had up to each price, and are wanted down to it.
 * @param {HTMLCanvasElement} canvas
 * @param {import("./models.js").Depth} depth
 */
export function drawDepth(canvas, depth) {
  const { context, width, height, colour } = sheet(canvas);
  const sides = [summed(depth.bids), summed(depth.asks)];
  const points = sides.flat();
  if (!points.length) return nothing(context, width, height, colour, "No orders for this window");
  const at = points.map((each) => each.price);
  const spread = Math.max(...at) - Math.min(...at) || Math.max(...at) * 0.1;
  const [low, high] = [Math.max(0, Math.min(...at) - spread * 0.06), Math.max(...at) + spread * 0.06];
  const x = scale(low, high, 0, width - AXIS);
  const most = Math.max(...points.map((each) => each.gpus));
  const y = scale(0, most, height - FOOT, 8);
  sides.forEach((side, place) => {
    if (!side.length) return;
    const edge = place === 0 ? 0 : width - AXIS;
    context.beginPath();
    context.moveTo(x(side[0].price), height - FOOT);
    side.forEach((each, step) => {
      context.lineTo(x(each.price), y(step ? side[step - 1].gpus : 0));
      context.lineTo(x(each.price), y(each.gpus));
    });
    context.lineTo(edge, y(side[side.length - 1].gpus));
    context.strokeStyle = context.fillStyle = colour(place === 0 ? "up" : "down");
    context.lineWidth = 1.5;
    context.stroke();
    context.lineTo(edge, height - FOOT);
    context.globalAlpha = 0.18;
    context.fill();
    context.globalAlpha = 1;
  });
  context.fillStyle = colour("muted");
  context.textAlign = "left";
  for (const gpus of ticks(0, most)) context.fillText(Math.round(gpus).toLocaleString("en-US"), width - AXIS + 6, y(gpus));
  context.textAlign = "center";
  for (const price of ticks(low, high)) {
    const place = x(price);
    if (place > 20 && place < width - AXIS - 20) context.fillText(shownPrice(price), place, height - FOOT / 2);
  }
}

/**
 * The best ask for a window by when it begins.
 * @param {HTMLCanvasElement} canvas
 * @param {{label: string, ask: string | null}[]} points
 */
export function drawCurve(canvas, points) {
  const { context, width, height, colour } = sheet(canvas);
  if (!points.length) return nothing(context, width, height, colour, "…");
  const known = points.filter((each) => each.ask !== null).map((each) => Number(each.ask));
  if (!known.length) return nothing(context, width, height, colour, "Nothing on sale ahead");
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const y = scale(low, high, height - FOOT - 10, 10);
  const x = scale(0, points.length - 1, 22, width - AXIS - 14);
  prices(context, width, colour, y, low, high);
  context.strokeStyle = context.fillStyle = colour("accent");
  context.lineWidth = 1.5;
  context.beginPath();
  let drawing = false;
  points.forEach(({ ask }, place) => {
    if (ask === null) return (drawing = false);
    if (drawing) context.lineTo(x(place), y(Number(ask)));
    else context.moveTo(x(place), y(Number(ask)));
    return (drawing = true);
  });
  context.stroke();
  points.forEach(({ ask }, place) => ask !== null && context.fillRect(x(place) - 2.5, y(Number(ask)) - 2.5, 5, 5));
  context.fillStyle = colour("muted");
  context.textAlign = "center";
  points.forEach(({ label }, place) => context.fillText(label, x(place), height - FOOT / 2));
}

/** @param {import("./models.js").Level[]} levels best first */
function summed(levels) {
  let gpus = 0;
  return levels.map((level) => ({ price: Number(level.price), gpus: (gpus += level.quantity) }));
}

/** Lines and figures of a price axis. @type {(context: CanvasRenderingContext2D, width: number, colour: (name: string) => string, y: (price: number) => number, low: number, high: number) => void} */
function prices(context, width, colour, y, low, high) {
  context.textAlign = "left";
  for (const price of low === high ? [low] : ticks(low, high)) {
    context.fillStyle = colour("line");
    context.fillRect(0, Math.round(y(price)), width - AXIS, 1);
    context.fillStyle = colour("muted");
    context.fillText(shownPrice(price), width - AXIS + 6, y(price));
  }
}

/** Three to six round numbers between. @param {number} low @param {number} high */
function ticks(low, high) {
  const rough = (high - low) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((each) => each * power >= rough) ?? 10);
  const found = [];
  for (let each = Math.ceil(low / step) * step; each <= high + step * 1e-6; each += step) found.push(each);
  return found;
}

/** @param {number} price */
function shownPrice(price) {
  return price.toFixed(price < 1 ? 3 : 2);
}

/** A linear scale. @param {number} low @param {number} high @param {number} from @param {number} to */
function scale(low, high, from, to) {
  if (low === high) return () => (from + to) / 2;
  return (/** @type {number} */ value) => from + ((value - low) / (high - low)) * (to - from);
}

/** @type {(context: CanvasRenderingContext2D, width: number, height: number, colour: (name: string) => string, text: string) => void} */
function nothing(context, width, height, colour, text) {
  context.fillStyle = colour("muted");
  context.textAlign = "center";
  context.fillText(text, width / 2, height / 2);
}
