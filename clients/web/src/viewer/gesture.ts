/** What fingers, mouse and wheel ask for. */
export interface Gestures {
  slices: (by: number) => void;
  /** A factor, and the place in the element that stays where it is. */
  zoom: (factor: number, left: number, top: number) => void;
  /** By so many CSS pixels. */
  drag: (right: number, down: number) => void;
}

const WHEEL_STEP = 40;

/** Listen to an element; returns what ends that. */
export function gestures(element: HTMLElement, act: Gestures): () => void {
  const fingers = new Map<number, PointerEvent>();
  let wheel = 0;

  const onWheel = (event: WheelEvent) => {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? WHEEL_STEP : 1);
    if (event.ctrlKey || event.metaKey) {
      act.zoom(Math.exp(Math.max(-100, Math.min(100, pixels)) / 200), event.offsetX, event.offsetY);
      return;
    }
    // Touchpads send many small steps, wheels a few large ones: a large one is one slice.
    wheel += Math.max(-WHEEL_STEP, Math.min(WHEEL_STEP, pixels));
    const steps = Math.trunc(wheel / WHEEL_STEP);
    wheel -= steps * WHEEL_STEP;
    if (steps) act.slices(steps);
  };
  const onDown = (event: PointerEvent) => {
    if (event.button !== 0) return;
    element.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, event);
  };
  const onMove = (event: PointerEvent) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const other = [...fingers.values()].find((finger) => finger.pointerId !== event.pointerId);
    if (other) {
      const edge = element.getBoundingClientRect();
      const left = (event.clientX + other.clientX) / 2 - edge.left;
      const top = (event.clientY + other.clientY) / 2 - edge.top;
      act.zoom(apart(before, other) / Math.max(1, apart(event, other)), left, top);
      act.drag((event.clientX - before.clientX) / 2, (event.clientY - before.clientY) / 2);
    } else act.drag(event.clientX - before.clientX, event.clientY - before.clientY);
    fingers.set(event.pointerId, event);
  };
  const onUp = (event: PointerEvent) => fingers.delete(event.pointerId);

  element.addEventListener("wheel", onWheel, { passive: false });
  element.addEventListener("pointerdown", onDown);
  element.addEventListener("pointermove", onMove);
  element.addEventListener("pointerup", onUp);
  element.addEventListener("pointercancel", onUp);
  return () => {
    element.removeEventListener("wheel", onWheel);
    element.removeEventListener("pointerdown", onDown);
    element.removeEventListener("pointermove", onMove);
    element.removeEventListener("pointerup", onUp);
    element.removeEventListener("pointercancel", onUp);
  };
}

const apart = (one: PointerEvent, other: PointerEvent): number =>
  Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
