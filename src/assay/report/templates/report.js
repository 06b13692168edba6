(() => {
  "use strict";
  const root = document.documentElement;
  const all = (query, node = document) => Array.from(node.querySelectorAll(query));
  const FIRST = 24;

  // One gallery. A page about several studies has one a chapter; they share nothing but the address.
  function gallery(section) {
    const prefix = section.dataset.prefix;
    const get = (id) => document.getElementById(prefix + id);
    const cards = all(".card", section);

    // The perturbation: grey + k · δ, from bytes that stand for most · (b − 128) / 127.
    const pixels = new WeakMap();
    const gain = get("gain");
    const power = () => 2 ** Number(gain.value);
    const spoken = (k) => "×" + (k < 10 ? Number(k.toFixed(1)) : Math.round(k));

    function paint(canvas) {
      const from = pixels.get(canvas);
      const context = canvas.getContext("2d");
      const image = context.createImageData(canvas.width, canvas.height);
      const scale = (255 * power() * from.most) / 127;
      for (let i = 0; i < from.bytes.length; i += 4) {
        for (let c = 0; c < 3; c += 1) image.data[i + c] = 127.5 + scale * (from.bytes[i + c] - 128);
        image.data[i + 3] = 255;
      }
      context.putImageData(image, 0, 0);
      const ends = image.data.reduce((n, value, i) => n + (i % 4 < 3 && (value === 0 || value === 255)), 0);
      canvas.title = `${Math.round((400 / 3) * (ends / image.data.length))} % of the values reach black or white`;
      canvas.setAttribute("aria-label", "perturbation, amplified " + spoken(power()));
    }

    async function develop(frame) {
      const shown = frame.querySelector("img");
      if (!shown || frame.dataset.state) return;
      frame.dataset.state = "coming";
      const image = new Image();
      image.src = shown.src;
      await image.decode();
      const canvas = document.createElement("canvas");
      canvas.width = image.naturalWidth;
      canvas.height = image.naturalHeight;
      canvas.setAttribute("role", "img");
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
      const bytes = context.getImageData(0, 0, canvas.width, canvas.height).data;
      pixels.set(canvas, { bytes, most: Number(frame.dataset.most) });
      paint(canvas);
      shown.replaceWith(canvas);
      frame.dataset.state = "shown";
    }

    let waiting = false;
    function amplify() {
      get("gain-shown").textContent = spoken(power());
      for (const times of all(".times", section)) times.textContent = spoken(power());
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        for (const canvas of all(".delta canvas", section)) paint(canvas);
      });
    }

    // The view lives in the address, so that it can be linked: #model=…&attack=…&class=…&outcome=…&gain=…&card=…
    // On a page about several studies #chapter=… comes first, and says whose gallery is meant.
    const filters = all("[data-filter]", section);
    const choices = (filter) => (filter.tagName === "SELECT" ? Array.from(filter.options) : all("input", filter));
    const chosen = (filter) => choices(filter).find((choice) => (choice.tagName === "OPTION" ? choice.selected : choice.checked));
    let limit = FIRST;

    function apply() {
      const wanted = filters
        .map((filter) => [filter.dataset.filter, chosen(filter)?.dataset.i])
        .filter(([, value]) => value !== undefined);
      let found = 0;
      for (const card of cards) {
        const fits = wanted.every(([name, value]) => card.dataset[name] === value);
        found += fits;
        card.dataset.fits = fits;
        card.hidden = !fits || found > limit;
      }
      const seen = Math.min(found, limit);
      get("shown").textContent = found === 0 ? "no card fits" : `${seen} of ${found} ${found === 1 ? "card" : "cards"}`;
      get("more").hidden = found <= limit;
      get("more").textContent = `Show all ${found}`;
    }

    function choose(filter, value) {
      const choice = choices(filter).find((one) => one.value === value) ?? choices(filter)[0];
      if (choice.tagName === "OPTION") choice.selected = true;
      else choice.checked = true;
    }

    function followAddress() {
      if (!location.hash.includes("=")) return;
      const asked = new URLSearchParams(location.hash.slice(1));
      if ((asked.get("chapter") ?? "1") !== section.dataset.chapter) {
        leave();
        return;
      }
      for (const filter of filters) choose(filter, asked.get(filter.dataset.filter) ?? "");
      const asks = Number.parseFloat(asked.get("gain"));
      if (Number.isFinite(asks)) gain.value = asks;
      amplify();
      apply();
      const card = cards[asked.get("card") ?? -1];
      section.scrollIntoView({ behavior: "instant" });
      if (card) show(card);
      else leave();
    }

    function toAddress() {
      const asked = new URLSearchParams();
      if (prefix) asked.set("chapter", section.dataset.chapter);
      for (const filter of filters) if (chosen(filter)?.value) asked.set(filter.dataset.filter, chosen(filter).value);
      if (gain.value !== gain.defaultValue) asked.set("gain", gain.value);
      if (viewer.open) asked.set("card", cards.indexOf(current));
      const alone = [...asked].length <= (prefix ? 1 : 0);
      history.replaceState(null, "", "#" + (alone ? section.id : asked));
    }

    // One card, enlarged.
    const viewer = get("viewer");
    let current = null;

    function show(card) {
      current = card;
      const copy = card.cloneNode(true);
      const tiles = document.createElement("div");
      tiles.className = "tiles";
      tiles.append(...copy.querySelector(".tiles").childNodes);
      for (const frame of all(".delta", tiles)) {
        const canvas = frame.querySelector("canvas");
        const original = card.querySelector(".delta canvas");
        if (canvas && original) {
          pixels.set(canvas, pixels.get(original));
          paint(canvas);
        } else {
          delete frame.dataset.state;
          develop(frame);
        }
      }
      for (const image of all("img", tiles)) image.loading = "eager";
      get("stage").replaceChildren(tiles, copy.querySelector(".caption"));
      get("blink").hidden = !card.querySelector(".delta");
      if (!viewer.open) viewer.showModal();
      toAddress();
    }

    // Close because the address asks for something else, and so without writing to it.
    function leave() {
      current = null;
      if (viewer.open) viewer.close();
    }

    function turn(step) {
      const fitting = cards.filter((card) => card.dataset.fits === "true");
      if (fitting.length) show(fitting[(fitting.indexOf(current) + step + fitting.length) % fitting.length]);
    }

    function blink(on) {
      const [clean, attacked] = all(".tile img", get("stage"));
      if (!attacked || get("blink").hidden) return;
      attacked.dataset.own ??= attacked.src;
      attacked.src = on ? clean.src : attacked.dataset.own;
    }

    function wire() {
      for (const frame of all(".card .delta", section)) develop(frame);
      gain.addEventListener("input", amplify);
      gain.addEventListener("change", toAddress);
      get("outlines")?.addEventListener("change", (event) => {
        section.classList.toggle("bare", !event.target.checked);
      });
      for (const filter of filters) {
        filter.addEventListener("change", () => {
          apply();
          toAddress();
        });
      }
      get("controls").addEventListener("submit", (event) => event.preventDefault());
      get("more").addEventListener("click", () => {
        limit = Infinity;
        apply();
      });
      for (const card of cards) card.querySelector(".tiles").addEventListener("click", () => show(card));
      get("before").addEventListener("click", () => turn(-1));
      get("after").addEventListener("click", () => turn(1));
      get("close").addEventListener("click", () => viewer.close());
      viewer.addEventListener("click", (event) => {
        if (event.target === viewer) viewer.close();
      });
      viewer.addEventListener("close", () => {
        get("stage").replaceChildren();
        if (!current) return;
        current.querySelector(".tiles").focus();
        toAddress();
      });
      viewer.addEventListener("keydown", (event) => {
        if (event.key === "ArrowLeft") turn(-1);
        if (event.key === "ArrowRight") turn(1);
        if (event.key === " " && event.target === get("blink")) blink(true);
      });
      viewer.addEventListener("keyup", () => blink(false));
      get("blink").addEventListener("pointerdown", () => blink(true));
      for (const end of ["pointerup", "pointerleave", "pointercancel", "blur"]) {
        get("blink").addEventListener(end, () => blink(false));
      }
      addEventListener("hashchange", followAddress);
    }

    wire();
    amplify();
    apply();
    followAddress();
  }

  // Which chapter is being read: the one a third of the way down, before the first one the overview.
  function follow(chapters) {
    const list = document.querySelector(".top");
    const link = (id) => list.querySelector(`a[href="#${id}"]`);
    const within = new Set();
    const seen = new IntersectionObserver(
      (entries) => {
        for (const { target, isIntersecting } of entries) {
          if (isIntersecting) within.add(target.id);
          else within.delete(target.id);
        }
        const current = link([...within][0] ?? "overview");
        for (const other of all("[aria-current]", list)) other.removeAttribute("aria-current");
        current.setAttribute("aria-current", "true");
        list.scrollLeft = current.offsetLeft - (list.clientWidth - current.offsetWidth) / 2;
      },
      { rootMargin: "-35% 0% -65% 0%" },
    );
    for (const part of chapters) seen.observe(part);
  }

  for (const section of all(".gallery")) gallery(section);
  follow(all(".chapter"));
  root.dataset.ready = "1";
})();
