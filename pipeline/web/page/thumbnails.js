// Small pictures of a film at given times, made from the reader's own file: the server keeps none.

const WIDTH = 240;
const PATIENCE_MS = 4000;

function heard(target, name) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`no ${name}`)), PATIENCE_MS);
    target.addEventListener(name, () => { clearTimeout(late); resolve(); }, { once: true });
    target.addEventListener("error", () => { clearTimeout(late); reject(new Error("not playable")); }, { once: true });
  });
}

/** Draws frames of a film one after the other, as one video element can only be at one place. */
export class Thumbnails {
  constructor(url) {
    this.video = document.createElement("video");
    this.video.muted = true;
    this.video.playsInline = true;
    this.video.preload = "auto";
    this.ready = heard(this.video, "loadeddata");
    this.ready.catch(() => {});
    this.video.src = url;
    this.last = this.ready;
    this.closed = false;
  }

  /** Draw the frame at `seconds` onto the canvas; says whether that worked. */
  draw(canvas, seconds) {
    const drawn = this.last.then(() => this.#drawNow(canvas, seconds));
    this.last = drawn.catch(() => {});
    return drawn.then(() => true, () => false);
  }

  async #drawNow(canvas, seconds) {
    if (this.closed) throw new Error("closed");
    await this.ready;
    const { video } = this;
    // A little into the frame: its very first moment may still be the one before it.
    const there = Math.min(seconds + 0.01, Math.max(0, (video.duration || Infinity) - 0.001));
    if (Math.abs(video.currentTime - there) > 0.0005) {
      const arrived = heard(video, "seeked");
      video.currentTime = there;
      await arrived;
    }
    canvas.width = WIDTH;
    canvas.height = Math.round((WIDTH * video.videoHeight) / video.videoWidth) || 160;
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    canvas.classList.add("drawn");
  }

  close() {
    this.closed = true;
    this.video.removeAttribute("src");
    this.video.load();
  }
}
