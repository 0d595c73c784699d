// Connects to the notifications once the Socket.IO client is there.
window.addEventListener("load", () => {
  if (window.io) {
    window.vedfolnirSocket = window.io();
  }
});
