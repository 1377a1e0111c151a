// The page works without this file: it adds the live list, the progress bar, and posting without a reload.

const byId = (id) => document.getElementById(id)
const size = (bytes) => bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`

const localTimes = (root) => {
  for (const time of root.querySelectorAll("time")) {
    time.textContent = new Date(time.dateTime).toLocaleString([], { dateStyle: "short", timeStyle: "short" })
  }
}
localTimes(document)

// Live list. The server sends finished, escaped HTML: the same that it puts into the page.

const lists = { note: byId("notes"), file: byId("files") }

const fragment = (html) => {
  const template = document.createElement("template")
  template.innerHTML = html
  localTimes(template.content)
  return template.content
}

const put = (kind, id, html) => {
  const old = byId(`${kind}-${id}`)
  const content = fragment(html)
  if (old) return old.replaceWith(content)
  content.firstElementChild.classList.add("fresh")
  lists[kind].prepend(content)
}

const status = byId("status")
status.textContent = "connecting"
const events = new EventSource("/events")
const on = (name, listener) => events.addEventListener(name, (event) => listener(JSON.parse(event.data)))

on("snapshot", ({ files, notes }) => {
  lists.note.replaceChildren(fragment(notes))
  lists.file.replaceChildren(fragment(files))
})
for (const kind of ["note", "file"]) {
  on(kind, ({ html, id }) => put(kind, id, html))
  on(`${kind}-deleted`, ({ id }) => byId(`${kind}-${id}`)?.remove())
}
on("tick", ({ time, watching }) => {
  status.className = "status live"
  status.textContent = `live, ${watching} ${watching === 1 ? "page" : "pages"} open, ${
    new Date(time).toLocaleTimeString()
  }`
})
events.addEventListener("error", () => {
  status.className = "status lost"
  status.textContent = "connection lost, trying again"
})

// Posting without a reload, so that a note does not cut off an upload. An error page says what is wrong in its alert.

const alertIn = (html) =>
  new DOMParser().parseFromString(html, "text/html").querySelector("[role=alert]")?.textContent ?? "That did not work."

const say = (form, text) => {
  const alert = form.querySelector("[role=alert]")
  alert.hidden = text === undefined
  alert.textContent = text ?? ""
}

document.addEventListener("submit", async (event) => {
  const form = event.target
  if (form.matches(".delete")) {
    event.preventDefault()
    await fetch(form.action, { method: "POST", redirect: "manual" })
      .then(() => form.closest("li").remove())
      .catch(() => location.reload())
  } else if (form.id === "write") {
    event.preventDefault()
    try {
      const response = await fetch(form.action, {
        method: "POST",
        body: new URLSearchParams(new FormData(form)),
        redirect: "manual"
      })
      // A manual redirect is opaque: it is how the server says that the note was taken.
      if (response.type !== "opaqueredirect") return say(form, alertIn(await response.text()))
      say(form)
      form.elements.text.value = ""
      form.elements.text.focus()
    } catch {
      say(form, "The server did not answer.")
    }
  } else if (form.id === "send") {
    event.preventDefault()
    upload(form)
  }
})

// Upload with progress; fetch cannot tell how much was sent, XMLHttpRequest can.

const upload = (form) => {
  const panel = byId("upload")
  const bar = panel.querySelector("progress")
  const text = byId("sent")
  const request = new XMLHttpRequest()
  const start = performance.now()
  const stop = (message) => {
    panel.hidden = true
    form.querySelector("button[type=submit]").disabled = false
    say(form, message)
  }
  request.upload.addEventListener("progress", ({ loaded, total }) => {
    bar.max = total
    bar.value = loaded
    const perSecond = loaded / Math.max(performance.now() - start, 1) * 1000
    text.textContent = loaded < total
      ? `${size(loaded)} of ${size(total)}, ${size(perSecond)}/s`
      : `${size(total)} sent, the server is finishing`
  })
  request.addEventListener("load", () => {
    if (request.status >= 400) return stop(alertIn(request.responseText))
    form.reset()
    stop()
  })
  request.addEventListener("error", () => stop("The upload was cut off."))
  request.addEventListener("abort", () => stop("The upload was cancelled."))
  byId("cancel").onclick = () => request.abort()
  request.open("POST", form.action)
  bar.value = 0
  text.textContent = "starting"
  say(form)
  panel.hidden = false
  form.querySelector("button[type=submit]").disabled = true
  request.send(new FormData(form))
}
