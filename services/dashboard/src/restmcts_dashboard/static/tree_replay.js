// The search played again, response by response.
import { counted } from "./tree_words.js";

export class TreeReplay {
  constructor(view) {
    this.view = view;
    this.playing = false;
  }

  update() {
    const slider = this.view.box.querySelector('[data-do="frame"]');
    slider.max = this.view.model.lastFrame;
    slider.value = this.view.model.frame;
    slider.disabled = this.view.box.querySelector('[data-do="play"]').disabled = !this.view.model.lastFrame;
    this.sayFrame();
  }

  goTo(frame) {
    this.view.model.show(frame);
    this.view.box.querySelector('[data-do="frame"]').value = frame;
    this.sayFrame();
    this.view.redraw();
  }

  sayFrame() {
    const { model } = this.view;
    const count = counted(model.countShown(), "node");
    const words = !model.framesAreKnown ? `the whole tree: ${count}`
      : !model.lastFrame ? "no response to play again"
      : model.whole ? `the whole tree: ${count}, ${counted(model.frames.length, "response")}`
      : model.frame === 0 ? "before the first response"
      : `response ${model.frame} of ${model.frames.length} (${model.frames[model.frame - 1].kind}): ${count}`;
    this.view.box.querySelector("output").textContent = words;
    this.view.box.querySelector('[data-do="frame"]').setAttribute("aria-valuetext", words);
  }

  play(button) {
    const playing = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(playing));
    button.textContent = playing ? "Pause" : "Replay";
    clearInterval(this.timer);
    this.playing = playing;
    if (!playing) return this.view.redraw();
    if (this.view.model.whole) {
      this.view.model.unfoldAll();
      this.view.drawing.fit(this.view.model);
      this.goTo(0);
    }
    const pause = Math.min(Math.max(12000 / this.view.model.lastFrame, 40), 700);
    this.timer = setInterval(() => {
      if (this.view.model.frame >= this.view.model.lastFrame) this.play(button);
      else this.goTo(this.view.model.frame + 1);
    }, pause);
  }
}
