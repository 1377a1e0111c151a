/**
 * The HTML of the board: whole pages, and the list items that are also sent over the event stream.
 *
 * A page is one document: the style sheet and the script are put into it, and its Content-Security-Policy allows
 * exactly those two, by their hashes.
 */
import * as Duration from "effect/Duration"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import type { About } from "./About.ts"
import { type BoardFile, type Note, undoTime } from "./Board.ts"
import { chain } from "./Chain.ts"
import { Html, html } from "./Html.ts"
import type { Exchange } from "./Records.ts"

const css = readFileSync(new URL("./page.css", import.meta.url), "utf8")
const script = readFileSync(new URL("./page.js", import.meta.url), "utf8")
const hashOf = (text: string) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`

const headers = {
  "cache-control": "no-store",
  "content-security-policy": [
    "default-src 'none'",
    `style-src ${hashOf(css)}`,
    `script-src ${hashOf(script)}`,
    "connect-src 'self'",
    "img-src data:",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'"
  ].join("; "),
  "referrer-policy": "same-origin",
  "x-content-type-options": "nosniff"
}

const icon = "data:image/svg+xml," + encodeURIComponent(
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#0b6e63"/>` +
    `<path d="M4 5h8M4 8h8M4 11h5" stroke="#fff" stroke-width="1.5"/></svg>`
)

const page = (title: string, body: Html, options: { readonly status: number; readonly script: boolean }) =>
  HttpServerResponse.text(
    html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<link rel="icon" href="${icon}">
<style>${new Html(css)}</style>
</head>
<body>
<div class="wrap">
${body}
</div>${
      options.script ?
        html`
<script>${new Html(script)}</script>` :
        undefined
    }
</body>
</html>
`.text,
    { status: options.status, headers, contentType: "text/html; charset=utf-8" }
  )

// List items

const time = (milliseconds: number) => {
  const iso = new Date(milliseconds).toISOString()
  return html`<time datetime="${iso}">${iso.slice(0, 10)} ${iso.slice(11, 16)} UTC</time>`
}

const sizeOf = (bytes: number) =>
  bytes < 1000
    ? `${bytes} B`
    : bytes < 1e6
    ? `${(bytes / 1e3).toFixed(1)} kB`
    : bytes < 1e9
    ? `${(bytes / 1e6).toFixed(1)} MB`
    : `${(bytes / 1e9).toFixed(2)} GB`

const deleteForm = (action: string, label: string) =>
  html`<form class="delete" method="post" action="${action}"><button class="quiet" aria-label="${label}">delete</button></form>`

/** A note longer than this is folded. */
const maxUnfolded = { characters: 600, lines: 12 }

/** The beginning of a long note, up to the end of a word; `undefined` for a short one. */
const beginningOf = (text: string): string | undefined => {
  const lines = text.split("\n")
  if (text.length <= maxUnfolded.characters && lines.length <= maxUnfolded.lines) return undefined
  const beginning = lines.slice(0, maxUnfolded.lines / 2).join("\n")
  return beginning.slice(0, maxUnfolded.characters / 2).replace(/\s+\S*$/, "")
}

const noteText = (text: string): Html => {
  const beginning = beginningOf(text)
  return beginning === undefined
    ? html`<p class="text">${text}</p>`
    : html`<p class="text beginning">${beginning} …</p><details class="long"><summary><span class="more">Show all of it</span><span class="less">Show less</span></summary><p class="text">${text}</p></details>`
}

export const noteItem = (note: Note): Html =>
  html`<li class="card" id="note-${note.id}" data-id="${note.id}">${
    noteText(note.text)
  }<div class="meta"><b>${note.author}</b>${time(note.createdAt)}${
    deleteForm(`/notes/${note.id}/delete`, `Delete the note by ${note.author}`)
  }</div></li>`

export const fileItem = (file: BoardFile): Html =>
  file.complete
    ? html`<li class="card" id="file-${file.id}" data-id="${file.id}"><a class="name" href="/files/${file.id}">${file.name}</a><div class="meta"><span>${
      sizeOf(file.size)
    }</span>${time(file.createdAt)}${
      deleteForm(`/files/${file.id}/delete`, `Delete the file ${file.name}`)
    }</div><span class="hash">sha256 ${file.sha256 ?? undefined}</span></li>`
    : html`<li class="card arriving" id="file-${file.id}" data-id="${file.id}"><span class="name">${file.name}</span><div class="meta"><span>arriving, ${
      sizeOf(file.size)
    } so far</span></div></li>`

export const noteItems = (notes: ReadonlyArray<Note>): Html => html`${notes.map(noteItem)}`
export const fileItems = (files: ReadonlyArray<BoardFile>): Html => html`${files.map(fileItem)}`

// Pages

const alert = (text: string | undefined) =>
  text === undefined
    ? html`<p class="alert" role="alert" hidden></p>`
    : html`<p class="alert" role="alert">${text}</p>`

const facts = (pairs: ReadonlyArray<readonly [name: string, value: string]>) =>
  html`<dl class="facts">${pairs.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`

const about = ({ exchange, facts: pairs, variables }: About) =>
  html`<section class="card" aria-labelledby="about">
<h2 id="about" tabindex="-1">About this request</h2>
${facts(pairs)}
${Option.getOrUndefined(Option.map(exchange, chain))}
${
    variables.length === 0 ? undefined : html`<details>
<summary>${variables.length} CGI variables</summary>
<table>${variables.map(([name, value]) => html`<tr><th scope="row">${name}</th><td>${value}</td></tr>`)}</table>
</details>`
  }
</section>`

/** What was deleted a moment ago, with the way to undo it. */
const undo = (deleted: Note | BoardFile) => {
  const [what, action] = "text" in deleted
    ? [html`The note by <b>${deleted.author}</b> is deleted.`, `/notes/${deleted.id}/restore`]
    : [html`The file <b>${deleted.name}</b> is deleted.`, `/files/${deleted.id}/restore`]
  return html`<div class="card gone" id="deleted" role="status"><span>${what}</span><form method="post" action="${action}"><button class="quiet" autofocus>Undo</button></form></div>`
}

export interface BoardPage {
  readonly notes: ReadonlyArray<Note>
  readonly files: ReadonlyArray<BoardFile>
  readonly about: About
  /** Where the page says that somebody writes, and hears it of others, where that can be. */
  readonly writing: string | undefined
  /** What was sent and why it was refused. */
  readonly refused?: { readonly author: string; readonly text: string; readonly because: string } | undefined
  /** What was deleted a moment ago and can be restored. */
  readonly deleted?: Note | BoardFile | undefined
}

export const board = (options: BoardPage): HttpServerResponse.HttpServerResponse =>
  page(
    "Notes board",
    html`<header>
<h1><a href="/">Notes board</a></h1>
<p class="status" id="status">not live: this page updates when you reload it</p>
<nav aria-label="On this page"><a href="#notes-title">Notes</a><a href="#files">Files</a><a href="#about">About this request</a></nav>
</header>
${options.deleted === undefined ? undefined : undo(options.deleted)}
<main class="columns">
<section class="column" aria-labelledby="write-title">
<div class="card">
<h2 id="write-title">Write a note</h2>
<form class="stack" id="write" method="post" action="/">
${alert(options.refused?.because)}
<label>Your name <input name="author" maxlength="60" autocomplete="nickname" placeholder="Anonymous" value="${options.refused?.author}"></label>
<label>Note <textarea name="text" maxlength="2000" required aria-keyshortcuts="Control+Enter">${"\n"}${options.refused?.text}</textarea></label>
<div class="row"><button type="submit">Post</button><span class="hint" id="shortcut" hidden>or <kbd>Ctrl</kbd> <kbd>Enter</kbd> in the note</span></div>
</form>
${
      options.writing === undefined
        ? undefined
        : html`<p class="writing" id="writing" data-path="${options.writing}" hidden></p>`
    }
</div>
<h2 id="notes-title" tabindex="-1">Notes</h2>
<p class="hint">The server keeps notes in memory and files in a temporary folder. Both are gone when the server stops.</p>
<ul class="list" id="notes" aria-labelledby="notes-title" aria-live="polite" aria-relevant="additions" data-undo="${
      Duration.toMillis(undoTime)
    }">${noteItems(options.notes)}</ul>
<p class="none">No notes yet.</p>
</section>
<section class="column" aria-labelledby="send-title">
<div class="card">
<h2 id="send-title">Share files</h2>
<form class="stack" id="send" method="post" action="/files" enctype="multipart/form-data">
${alert(undefined)}
<label>Files of any size <input type="file" name="file" multiple required></label>
<div class="row"><button type="submit">Upload</button><span class="hint" id="cancelled" role="status"></span></div>
<div class="upload" id="upload" hidden>
<progress aria-label="Upload progress" max="1" value="0"></progress>
<div><span id="sent"></span><button type="button" class="quiet" id="cancel">cancel</button></div>
</div>
</form>
</div>
<h2 id="files-title" tabindex="-1">Files</h2>
<ul class="list" id="files" aria-labelledby="files-title">${fileItems(options.files)}</ul>
<p class="none">No files yet.</p>
</section>
</main>
<footer>
${about(options.about)}
<nav aria-label="More">
<a href="/api/notes">Notes as JSON</a>
<a href="/api/openapi.json">OpenAPI</a>
<a href="/broken">A page that fails</a>
<a href="/nowhere">A page that does not exist</a>
</nav>
</footer>`,
    { status: options.refused === undefined ? 200 : 400, script: true }
  )

/** A page that says one thing, with the way back. */
export const message = (options: {
  readonly status: number
  readonly title: string
  readonly text: string
  readonly id?: string | undefined
}): HttpServerResponse.HttpServerResponse =>
  page(
    `${options.title} - Notes board`,
    html`<main class="card message">
<h1>${options.title}</h1>
<p role="alert">${options.text}</p>
${
      options.id === undefined
        ? undefined
        : html`<p class="hint">If you report this, give the number <code>${options.id}</code>: the cause is in the server's log under it.</p>`
    }
<a class="button" href="/">Back to the board</a>
</main>`,
    { status: options.status, script: false }
  )

/** The records of a page, with those of the response that the page was. */
export const records = (exchange: Exchange): HttpServerResponse.HttpServerResponse =>
  page(
    "Records - Notes board",
    html`<main class="card message wide">
<h1>The request ${exchange.request}</h1>
<h2>From the web server to the app, and back</h2>
${chain(exchange)}
<a class="button" href="/">Back to the board</a>
</main>`,
    { status: 200, script: false }
  )
