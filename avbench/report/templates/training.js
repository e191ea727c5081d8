"use strict";
// Pictures over time: a slider over the steps; only the picture asked for is loaded.
(() => {
  for (const film of document.querySelectorAll(".film")) {
    const pictures = JSON.parse(film.querySelector("script").textContent);
    const [slider, output, link, image] = ["input", "output", "a", "img"].map((tag) => film.querySelector(tag));
    slider.hidden = false;
    slider.addEventListener("input", () => {
      const [step, file] = pictures[Number(slider.value)];
      output.textContent = `step ${step}`;
      link.href = image.src = file;
      image.alt = `Held-out clips and their reconstructions after step ${step}`;
    });
  }
})();
