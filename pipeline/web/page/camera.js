// Takes a picture with the camera: in the page where the browser allows it, else with the phone's own camera.
import { byId } from "./dom.js";

const REFUSALS = {
  NotAllowedError: "The browser was not allowed to use the camera. Allow it in the address bar, or choose a picture instead.",
  NotFoundError: "There is no camera here. Choose a picture instead.",
  NotReadableError: "The camera is busy: another program may be using it.",
};

let stream = null;
let facing = "environment";

function stop() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  byId("camera-video").srcObject = null;
}

async function start() {
  const [problem, take] = [byId("camera-problem"), byId("camera-take")];
  problem.hidden = true;
  take.disabled = true;
  stop();
  try {
    const opened = await navigator.mediaDevices.getUserMedia({ video: { facingMode: facing, width: { ideal: 1280 } } });
    if (!byId("camera").open) return opened.getTracks().forEach((track) => track.stop());
    stream = opened;
    byId("camera-video").srcObject = stream;
    await byId("camera-video").play();
    take.disabled = false;
    take.focus();
    const devices = await navigator.mediaDevices.enumerateDevices();
    byId("camera-turn").hidden = devices.filter((device) => device.kind === "videoinput").length < 2;
  } catch (error) {
    problem.textContent = REFUSALS[error.name] ?? "The camera cannot be used. Choose a picture instead.";
    problem.hidden = false;
  }
}

function take() {
  const video = byId("camera-video");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((resolve) => canvas.toBlob((blob) => resolve(blob && new File([blob], "camera.jpg", { type: "image/jpeg" })), "image/jpeg", 0.92));
}

/** Make the camera's buttons work; `taken` gets each picture as a File. */
export function useCamera(taken) {
  const dialog = byId("camera");
  byId("picture-camera").addEventListener("click", () => {
    // A page that came over plain HTTP from another machine may not see the camera; the phone's own may.
    if (!navigator.mediaDevices?.getUserMedia) return byId("picture-capture").click();
    dialog.showModal();
    start();
  });
  byId("camera-take").addEventListener("click", async () => {
    const picture = await take();
    dialog.close();
    if (picture) taken(picture);
  });
  byId("camera-turn").addEventListener("click", () => {
    facing = facing === "environment" ? "user" : "environment";
    start();
  });
  byId("camera-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", stop);
}
