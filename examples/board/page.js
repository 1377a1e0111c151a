// The page works without this file: it adds the live list, the progress bar, and posting without a reload.

const byId = (id) => document.getElementById(id)
const size = (bytes) => bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`

const localTimes = (root) => {
  for (const time of root.querySelectorAll("time")) {
    time.textContent = new Date(time.dateTime).toLocaleString([], { dateStyle: "short", timeStyle: "short" })
  }
}
localTimes(document)

// Lists, newest first. The server sends finished, escaped HTML: the same that it puts into the page.

const lists = { note: byId("notes"), file: byId("files") }
const undoTime = Number(lists.note.dataset.undo)

const fragment = (html) => {
  const template = document.createElement("template")
  template.innerHTML = html
  localTimes(template.content)
  return template.content
}

/** Removes an item, or puts another one in its place. The focus that was in it goes to the nearest thing to do. */
const replace = (item, other) => {
  const focused = item.contains(document.activeElement)
  const near = other ?? item.nextElementSibling ?? item.previousElementSibling
  const heading = byId(`${item.parentElement.id}-title`)
  if (other) item.replaceWith(other)
  else item.remove()
  if (focused) (near?.querySelector(".meta button, .undo button, a") ?? heading).focus()
}

const put = (kind, element) => {
  const { id } = element.dataset
  const old = byId(`${kind}-${id}`) ?? byId(`gone-${kind}-${id}`)
  if (old) return replace(old, element)
  element.classList.add("fresh")
  const older = Array.from(lists[kind].children).find((item) => Number(item.dataset.id) < Number(id))
  lists[kind].insertBefore(element, older ?? null)
}

/** Of an item: a server that was started anew gives the same ids to other things. */
const contentOf = (item) =>
  [
    item.className.includes("arriving"),
    item.querySelector("time")?.dateTime,
    ...Array.from(item.querySelectorAll(".text, .name, .meta b"), ({ textContent }) => textContent)
  ].join("\n")

/** What is the same stays as it is, with its focus and folds, and so does what can be restored. */
const putAll = (kind, html) => {
  const elements = Array.from(fragment(html).children)
  const ids = new Set(elements.map(({ id }) => id))
  for (const item of Array.from(lists[kind].children)) {
    if (!item.matches(".gone") && !ids.has(item.id)) replace(item)
  }
  for (const element of elements.reverse()) {
    const old = byId(element.id)
    if (!old || contentOf(old) !== contentOf(element)) put(kind, element)
  }
}

const status = byId("status")
status.textContent = "connecting"
const events = new EventSource("/events")
const on = (name, listener) => events.addEventListener(name, (event) => listener(JSON.parse(event.data)))

on("snapshot", ({ files, notes }) => {
  putAll("note", notes)
  putAll("file", files)
})
for (const kind of ["note", "file"]) {
  on(kind, ({ html }) => put(kind, fragment(html).firstElementChild))
  on(`${kind}-deleted`, ({ id }) => {
    const item = byId(`${kind}-${id}`)
    // What this page deletes is put away when the answer comes.
    if (item && !item.matches(".leaving")) replace(item)
  })
}
on("tick", ({ time, watching }) => {
  document.querySelectorAll(".alert.unanswered").forEach((alert) => clear(alert))
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

const unanswered = "The server did not answer. Try again when this page is live."

/** Shows an alert in a form or an item of a list. It goes when its cause has gone. */
const say = (place, text) => {
  let alert = place.querySelector("[role=alert]")
  if (!alert) {
    alert = document.createElement("p")
    alert.setAttribute("role", "alert")
    place.append(alert)
  }
  alert.className = text === unanswered ? "alert unanswered" : "alert"
  alert.hidden = false
  alert.textContent = text
}
const clear = (alert) => {
  alert.hidden = true
  alert.textContent = ""
}
const clearIn = (place) => place.querySelectorAll("[role=alert]").forEach(clear)

/** Posts a form. `undefined` when it was taken, or what is wrong. */
const post = (form, body) =>
  fetch(form.action, { method: "POST", body, redirect: "manual" }).then(
    // A manual redirect is opaque: it is how the server says that it has done it.
    async (response) => response.type === "opaqueredirect" ? undefined : alertIn(await response.text()),
    () => unanswered
  )

/** Deletes an item and leaves a line in its place, with the way to undo it and with the focus. */
const remove = async (form) => {
  const item = form.closest("li")
  item.classList.add("leaving")
  const wrong = await post(form)
  item.classList.remove("leaving")
  if (wrong !== undefined) return say(item, wrong)
  const gone = document.createElement("li")
  gone.className = "card gone"
  gone.id = `gone-${item.id}`
  gone.dataset.id = item.dataset.id
  const text = document.createElement("span")
  text.textContent = item.querySelector(".name")
    ? `The file ${item.querySelector(".name").textContent} is deleted.`
    : `The note by ${item.querySelector(".meta b").textContent} is deleted.`
  const undo = document.createElement("form")
  undo.className = "undo"
  undo.action = form.action.replace(/delete$/, "restore")
  undo.innerHTML = `<button class="quiet">Undo</button>`
  gone.append(text, undo)
  replace(item, gone)
  setTimeout(() => gone.isConnected && replace(gone), undoTime)
}

const restore = async (form) => {
  const wrong = await post(form)
  // When it was restored, the live stream brings the item.
  if (wrong !== undefined) say(form.closest("li"), wrong)
}

const write = async (form) => {
  const wrong = await post(form, new URLSearchParams(new FormData(form)))
  if (wrong !== undefined) return say(form, wrong)
  clearIn(form)
  form.elements.text.value = ""
  form.elements.text.focus()
}

document.addEventListener("submit", (event) => {
  const form = event.target
  const act = form.matches(".delete")
    ? remove
    : form.matches(".undo")
    ? restore
    : form.id === "write"
    ? write
    : form.id === "send"
    ? upload
    : undefined
  if (act === undefined) return
  event.preventDefault()
  act(form)
})

for (const form of [byId("write"), byId("send")]) {
  form.addEventListener("input", () => {
    clearIn(form)
    byId("cancelled").textContent = ""
  })
}

byId("shortcut").hidden = false
if (/^Mac|^iP/.test(navigator.platform)) byId("shortcut").querySelector("kbd").textContent = "⌘"
byId("write").elements.text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return
  event.preventDefault()
  byId("write").requestSubmit()
})

// Upload with progress; fetch cannot tell how much was sent, XMLHttpRequest can.

const upload = (form) => {
  const panel = byId("upload")
  const bar = panel.querySelector("progress")
  const text = byId("sent")
  const button = form.querySelector("button[type=submit]")
  const request = new XMLHttpRequest()
  const start = performance.now()
  const stop = () => {
    const focused = panel.contains(document.activeElement)
    panel.hidden = true
    button.disabled = false
    if (focused) button.focus()
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
    stop()
    if (request.status >= 400) say(form, alertIn(request.responseText))
    else form.reset()
  })
  request.addEventListener("error", () => {
    stop()
    say(form, "The upload was cut off. Try again.")
  })
  // Whoever cancels knows: it is no error.
  request.addEventListener("abort", () => {
    stop()
    byId("cancelled").textContent = "Cancelled. The server keeps no part of the file."
  })
  byId("cancel").onclick = () => request.abort()
  request.open("POST", form.action)
  bar.value = 0
  text.textContent = "starting"
  byId("cancelled").textContent = ""
  clearIn(form)
  panel.hidden = false
  const focused = document.activeElement === button
  button.disabled = true
  if (focused) byId("cancel").focus()
  request.send(new FormData(form))
}

// The records of the response that this page was: when it was made, they had not been sent.

const picture = byId("chain")
if (picture?.dataset.rest) {
  fetch(picture.dataset.rest)
    .then((response) => response.ok ? response.text() : Promise.reject(new Error("not kept")))
    .then((html) => picture.replaceWith(new DOMParser().parseFromString(html, "text/html").getElementById("chain")))
    // The link that stands there instead stays.
    .catch(() => {})
}

// Who else is writing. The server puts the place there where what stands in front of it carries WebSockets.

const writing = byId("writing")
if (writing) {
  const author = byId("write").elements.author
  const note = byId("write").elements.text
  const others = new Map()
  const pause = 4000
  let socket
  let opened = false
  let told = false
  let idle

  const show = () => {
    const names = Array.from(others.values(), (name) => name || "Somebody")
    writing.hidden = names.length === 0
    writing.textContent = names.length === 1 ? `${names[0]} is writing …` : `${names.join(", ")} are writing …`
  }
  const tell = (now) => {
    clearTimeout(idle)
    if (now) idle = setTimeout(() => tell(false), pause)
    if (now === told || socket?.readyState !== WebSocket.OPEN) return
    told = now
    socket.send(JSON.stringify({ author: author.value.trim(), writing: now }))
  }
  const connect = () => {
    const url = new URL(writing.dataset.path, location.href)
    url.protocol = url.protocol.replace("http", "ws")
    socket = new WebSocket(url)
    socket.addEventListener("open", () => {
      opened = true
    })
    socket.addEventListener("message", ({ data }) => {
      const event = JSON.parse(data)
      if (event.writing) others.set(event.page, event.author)
      else others.delete(event.page)
      show()
    })
    socket.addEventListener("close", () => {
      told = false
      others.clear()
      show()
    })
  }
  connect()
  // The line of events says when the server is there again. What was never opened is not carried here.
  on("snapshot", () => opened && socket.readyState === WebSocket.CLOSED && connect())

  note.addEventListener("input", () => tell(note.value !== ""))
  byId("write").addEventListener("submit", () => tell(false))
  addEventListener("pagehide", () => socket.close())
}
