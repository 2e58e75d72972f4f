// One clock for all cameras. The videos follow it: small drift is taken up by their rate, more by
// a seek; when one has no picture yet, the clock stands and the others wait.

const NEAR = 0.006; // seconds that need no correction: a small part of a frame
const FAR = 0.3; // from here a seek is quicker than a nudge
const NUDGE = 0.15; // the most that a rate is changed by, as a part of it
const GAIN = 4; // of the rate, for each second of drift
const PATIENCE = 10_000; // milliseconds that all wait for one camera

/** A camera that the clock leads. `state`: none, loading, ready, slow, broken. */
export class Camera {
  constructor(stream) {
    this.key = stream.key;
    this.isEgo = stream.is_ego;
    this.url = stream.video;
    this.state = stream.video ? "loading" : "none";
    this.duration = Infinity;
    this.aspect = stream.is_ego ? 1 : 16 / 9;
    this.waits = 0;
    const video = document.createElement("video");
    Object.assign(video, { muted: true, playsInline: true, preload: "metadata", disablePictureInPicture: true });
    video.tabIndex = -1;
    this.video = video;
  }

  /** Whether it has a picture for this moment, as far as is known. */
  shows(time, frame) {
    return (this.state === "ready" || this.state === "loading") && time < this.duration - 1.5 * frame;
  }

  /** Whether it can go on at once. */
  get isReady() {
    return this.state === "ready" && !this.video.seeking && this.video.readyState >= 3;
  }

  /** Goes to a moment; the newest wish wins when the video is still busy with an older one. */
  seek(time) {
    if (this.state !== "ready" && this.state !== "slow") return;
    this.wanted = Math.max(0, Math.min(time, this.duration - 0.001));
    if (this.video.seeking || Math.abs(this.video.currentTime - this.wanted) < 0.0005) return;
    this.sent = this.wanted;
    this.video.currentTime = this.wanted;
  }
}

/** Plays cameras in step. Dispatches `tick` (each picture), `state` and `camera` (one changed). */
export class Player extends EventTarget {
  constructor(streams, { duration, fps, signal }) {
    super();
    this.cameras = streams.map((stream) => new Camera(stream));
    this.nominal = duration || 0;
    this.fps = fps;
    this.time = 0;
    this.rate = 1;
    this.playing = false;
    this.held = false;
    this.waitingFor = [];
    for (const camera of this.cameras) if (camera.url) this.#listen(camera, signal);
    signal.addEventListener("abort", () => this.close());
    this.#loop();
  }

  /** Where the longest camera ends; what the catalogue says until all are known. */
  get duration() {
    const known = this.cameras.map((c) => c.duration).filter(Number.isFinite);
    // A camera that cannot be shown may be the longest: its clips are to be reached all the same.
    return known.length === this.cameras.length ? Math.max(...known) : Math.max(this.nominal, ...known);
  }

  /** The number of the frame that is shown. */
  get frame() {
    return Math.floor(this.time * this.fps + 1e-3);
  }

  /** Seconds between the cameras that are furthest apart; null with fewer than two playing. */
  get spread() {
    const times = this.cameras.filter((c) => c.state === "ready" && this.#leads(c)).map((c) => c.video.currentTime);
    return times.length > 1 ? Math.max(...times) - Math.min(...times) : null;
  }

  play() {
    if (this.playing || !this.duration) return;
    if (this.time >= this.duration - 1.5 / this.fps) this.seek(0);
    this.playing = true;
    this.held = true;
    // Paused videos fetch only what they show; from here on they may run ahead.
    for (const { video } of this.cameras) video.preload = "auto";
    this.#tell("state");
  }

  pause() {
    if (!this.playing) return;
    this.playing = this.held = false;
    this.waitingFor = [];
    this.#halt();
    // All on the very same frame, in its middle.
    this.seek((this.frame + 0.5) / this.fps);
    this.#tell("state");
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  /** Goes to a moment in seconds. */
  seek(time) {
    const last = Math.max(0, this.duration - 0.5 / this.fps);
    this.time = Math.max(0, Math.min(Number.isFinite(time) ? time : 0, last));
    if (this.playing) {
      this.held = true;
      this.#halt();
    }
    for (const camera of this.cameras) {
      camera.waits = 0;
      camera.seek(this.time);
    }
    this.#tell("tick");
  }

  /** Some frames on or, below zero, back; pauses. */
  step(frames) {
    this.pause();
    this.seek((this.frame + frames + 0.5) / this.fps);
  }

  setRate(rate) {
    this.rate = rate;
    for (const { video } of this.cameras) video.playbackRate = rate;
    this.#tell("state");
  }

  /** Loads a camera again, perhaps from another address. */
  retry(camera, url) {
    camera.url = url;
    this.#change(camera, "loading");
    camera.video.src = url;
  }

  close() {
    cancelAnimationFrame(this.request);
    for (const { video } of this.cameras) {
      video.pause();
      // Else the browser keeps the connection.
      video.removeAttribute("src");
      video.load();
    }
  }

  #leads(camera) {
    return camera.shows(this.time, 1 / this.fps);
  }

  #listen(camera, signal) {
    const { video } = camera;
    const on = (name, callback) => video.addEventListener(name, callback, { signal });
    on("loadedmetadata", () => {
      camera.duration = Number.isFinite(video.duration) ? video.duration : Infinity;
      if (video.videoWidth) camera.aspect = video.videoWidth / video.videoHeight;
      video.playbackRate = this.rate;
      this.#change(camera, video.videoWidth ? "ready" : "broken");
      if (this.time > 0) camera.seek(this.time);
    });
    on("seeked", () => {
      if (camera.wanted !== camera.sent) camera.seek(camera.wanted);
      this.#tell("tick");
    });
    on("canplay", () => camera.state === "slow" && this.#change(camera, "ready"));
    on("error", () => !signal.aborted && video.getAttribute("src") && this.#change(camera, "broken"));
    video.src = camera.url;
  }

  #change(camera, state) {
    camera.state = state;
    this.dispatchEvent(new CustomEvent("camera", { detail: camera }));
  }

  #tell(name) {
    this.dispatchEvent(new Event(name));
  }

  #halt() {
    for (const { video } of this.cameras) if (!video.paused) video.pause();
  }

  #loop() {
    let before = performance.now();
    const tick = (now) => {
      this.request = requestAnimationFrame(tick);
      // A tab that comes back from behind goes on from where it was.
      const passed = Math.min(Math.max(0, now - before), 250);
      before = now;
      if (this.playing) this.#advance(passed);
    };
    this.request = requestAnimationFrame(tick);
  }

  #advance(passed) {
    const leading = this.cameras.filter((camera) => this.#leads(camera));
    const waiting = leading.filter((camera) => !camera.isReady);
    for (const camera of waiting) {
      camera.waits += passed;
      // A camera that does not come is left behind rather than stopping the rest for good.
      if (camera.waits > PATIENCE) this.#change(camera, "slow");
    }
    const names = waiting.map((camera) => camera.key);
    if (names.join() !== this.waitingFor.join()) {
      this.waitingFor = names;
      this.#tell("state");
    }
    if (waiting.length) {
      this.held = true;
      this.#halt();
      return;
    }
    if (this.held) {
      this.held = false;
      // Where they stand may be up to a frame off the clock after a wait: start from one moment.
      for (const camera of leading) this.#start(camera);
      return;
    }
    this.time += (passed / 1000) * this.rate;
    for (const camera of leading) this.#follow(camera);
    if (this.time >= this.duration - 0.5 / this.fps) {
      this.pause();
      this.seek(this.duration);
    }
    this.#tell("tick");
  }

  #start(camera) {
    camera.waits = 0;
    camera.video.playbackRate = this.rate;
    // Interrupted by a pause, which is fine, or forbidden, which `paused` tells at the next tick.
    camera.video.play().catch(() => {});
  }

  #follow(camera) {
    const { video } = camera;
    if (video.paused && !video.ended) this.#start(camera);
    const ahead = video.currentTime - this.time;
    if (Math.abs(ahead) > FAR * Math.max(1, this.rate)) {
      camera.seek(this.time);
      return;
    }
    const nudge = Math.abs(ahead) < NEAR ? 0 : Math.max(-NUDGE, Math.min(NUDGE, ahead * GAIN));
    const rate = this.rate * (1 - nudge);
    if (Math.abs(video.playbackRate - rate) > 0.004) video.playbackRate = rate;
  }
}
