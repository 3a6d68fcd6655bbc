// The PIN pad: digits by glove. A keyboard types into the field itself.
"use strict";

document.getElementById("pad")?.addEventListener("click", (e) => {
  const digit = e.target.closest("[data-digit]")?.dataset.digit;
  if (digit === undefined) return;
  const field = document.getElementById("secret");
  field.value = digit ? (field.value + digit).slice(0, field.maxLength) : field.value.slice(0, -1);
});
