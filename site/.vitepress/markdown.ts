/**
 * What the site's Markdown has beyond VitePress's.
 */
import highlighter from "highlight.js"
import type { MarkdownRenderer } from "vitepress"

/** The anchor of a heading, as GitHub and npm make it, so that a link holds there and here. */
export const anchorOf = (heading: string): string =>
  heading.toLowerCase().replace(/[^\p{L}\p{N}\p{M}_ -]/gu, "").replaceAll(" ", "-")

/** What the languages of the docs' blocks are to highlight.js, where it does not know them. */
const closest: Readonly<Record<string, string>> = { caddyfile: "nginx", haproxy: "nginx", lighttpd: "perl" }

/** A block of code, its colours as classes that the style sheet has. */
export const highlight = (code: string, language: string): string => {
  const name = closest[language] ?? language
  const html = highlighter.getLanguage(name) === undefined
    ? highlighter.highlight(code, { language: "plaintext" })
    : highlighter.highlight(code, { language: name })
  return `<pre tabindex="0" v-pre><code>${html.value.trimEnd()}</code></pre>`
}

type Token = ReturnType<MarkdownRenderer["parse"]>[number]

const inLinks = (tokens: ReadonlyArray<Token>): ReadonlyArray<boolean> => {
  let depth = 0
  return tokens.map(({ type }) => {
    if (type === "link_open") depth++
    if (type === "link_close") depth--
    return depth > 0
  })
}

/**
 * Code in a line that names a module, or an export of one, leads to its page: `FastCgiLogger.layer`, also with arguments behind
 * it. On the page of a module its own exports need no module: `layer`.
 */
export const linkToReference = (md: MarkdownRenderer, addresses: ReadonlyMap<string, string>): void => {
  md.core.ruler.push("reference", (state) => {
    const { relativePath } = state.env as { readonly relativePath?: string }
    const own = /^api\/.*\/(\w+)\.md$/.exec(relativePath ?? "")?.[1]
    const addressOf = (code: string): string | undefined => {
      const name = /^[\w./-]+/.exec(code)?.[0] ?? ""
      return addresses.get(name) ?? (own === undefined ? undefined : addresses.get(`${own}.${name}`))
    }
    state.tokens.forEach((token, index) => {
      if (token.type !== "inline" || state.tokens[index - 1]?.type === "heading_open") return
      const children = token.children ?? []
      const linked = inLinks(children)
      token.children = children.flatMap((child, at) => {
        const address = child.type === "code_inline" && linked[at] === false ? addressOf(child.content) : undefined
        if (address === undefined) return [child]
        const open = new state.Token("link_open", "a", 1)
        open.attrSet("href", address)
        return [open, child, new state.Token("link_close", "a", -1)]
      })
    })
  })
}

/** Vue looks for `{{ }}` in a page. There is none for it in ours. */
export const withoutVue = (md: MarkdownRenderer): void => {
  md.renderer.rules["text"] = (tokens, index) => md.utils.escapeHtml(tokens[index]!.content).replaceAll("{", "&#123;")
  md.renderer.rules["code_inline"] = (tokens, index) =>
    `<code v-pre>${md.utils.escapeHtml(tokens[index]!.content)}</code>`
}

/** A block that is indented looks like one that is fenced. */
export const indentedCode = (md: MarkdownRenderer): void => {
  md.renderer.rules["code_block"] = (tokens, index) =>
    `<div class="language-txt">${highlight(tokens[index]!.content, "plaintext")}</div>\n`
}

/** A table that is wider than the page scrolls by itself, also with the keyboard. */
export const scrollingTables = (md: MarkdownRenderer): void => {
  md.renderer.rules["table_open"] = (tokens, index, options, _env, self) =>
    `<div class="table" tabindex="0" role="group" aria-label="Table">${self.renderToken(tokens, index, options)}`
  md.renderer.rules["table_close"] = (tokens, index, options, _env, self) =>
    `${self.renderToken(tokens, index, options)}</div>`
}
