// The frame that shows where the new sky ends. props.value: new pixels of the result at each side.
// props.photograph: URL of the picture; props.width, props.height: its pixels in the result.
const STEP = 8, MOST = 4096, ROOM = 1.3;
const DIVISOR = 4; // of the sides of the result, so that it can grow further without being resampled
const part = (name) => element.querySelector(`.${name}`);
const [stage, frame, photograph, size] = ["stage", "frame", "photograph", "size"].map(part);
const inputs = Object.fromEntries([...element.querySelectorAll("input")].map((input) => [input.dataset.side, input]));
let margins, scale, left, top; // of the frame: pixels at each side, scale, place on the stage

const limited = (pixels) => Math.min(MOST, Math.max(0, STEP * Math.round(pixels / STEP)));
const halves = (pixels) => [limited(pixels / 2), Math.max(0, Math.round(pixels) - limited(pixels / 2))];

// The size of the result. Margins at the right and bottom are widened by a few pixels for DIVISOR.
function resultSize() {
  const divisible = (known, before, after) => {
    const length = known + margins[before] + margins[after], lack = margins[after] ? -length & (DIVISOR - 1) : 0;
    margins[after] += lack;
    return length + lack;
  };
  return [divisible(props.width, "left", "right"), divisible(props.height, "top", "bottom")];
}

function fit() {
  const [width, height] = resultSize();
  scale = Math.min(stage.clientWidth / width, stage.clientHeight / height) / ROOM;
  left = (stage.clientWidth - width * scale) / 2 + margins.left * scale;
  top = (stage.clientHeight - height * scale) / 2 + margins.top * scale;
  draw();
}

function place(box, x, y, width, height) {
  Object.assign(box.style, { left: `${x}px`, top: `${y}px`, width: `${width}px`, height: `${height}px` });
}

function draw() {
  const [width, height] = resultSize();
  place(photograph, left, top, props.width * scale, props.height * scale);
  place(frame, left - margins.left * scale, top - margins.top * scale, width * scale, height * scale);
  size.textContent = `${width} × ${height} pixels`;
  for (const side in inputs) inputs[side].value = margins[side];
}

function change(changed) {
  margins = { ...margins, ...changed };
  fit();
  props.value = { ...margins };
}

function show() {
  if (!props.photograph) return;
  if (photograph.src !== props.photograph) photograph.src = props.photograph;
  margins = { ...props.value };
  fit();
}

for (const handle of element.querySelectorAll("[data-sides]")) {
  handle.addEventListener("pointerdown", (start) => {
    start.preventDefault();
    handle.setPointerCapture(start.pointerId);
    const before = { ...margins };
    const move = (event) => {
      const x = (event.clientX - start.clientX) / scale, y = (event.clientY - start.clientY) / scale;
      const outwards = { left: -x, right: x, top: -y, bottom: y };
      for (const side of handle.dataset.sides.split(" ")) margins[side] = limited(before[side] + outwards[side]);
      draw();
    };
    handle.addEventListener("pointermove", move);
    const end = () => {
      handle.removeEventListener("pointermove", move);
      change({});
    };
    handle.addEventListener("pointerup", end, { once: true });
  });
}

for (const side in inputs) {
  inputs[side].addEventListener("change", () => change({ [side]: limited(inputs[side].value) }));
}

element.querySelector("[data-around]").addEventListener("click", (event) => {
  const around = Number(event.currentTarget.dataset.around);
  change({ left: around, right: around, top: around, bottom: around });
});

for (const button of element.querySelectorAll("[data-aspect]")) {
  button.addEventListener("click", () => {
    const [across, down] = button.dataset.aspect.split(":").map(Number);
    let width = Math.max(props.width, (props.height * across) / down);
    const isNew = width * ((width * down) / across) > 1.2 * props.width * props.height;
    width *= isNew ? 1 : 1.5; // a photograph that has this aspect grows on all sides
    const [left, right] = halves(width - props.width), [top, bottom] = halves((width * down) / across - props.height);
    change({ left, right, top, bottom });
  });
}

new ResizeObserver(() => margins && fit()).observe(stage);
watch(["value", "photograph", "width", "height"], show);
show();
