/**
 * The site, for VitePress: everything in it is made of docs/README.md, docs/ and the docstrings.
 */
import { defineConfig } from "vitepress"
import { jobs } from "../map.ts"
import { html, pages } from "../paths.ts"
import { addresses, entries } from "../reference.ts"
import { anchorOf, highlight, indentedCode, linkToReference, scrollingTables, withoutVue } from "./markdown.ts"

const reference = entries()

const guide = jobs().map(({ name, pages }) => ({
  text: name,
  items: pages.map((page) => ({ text: page.name, link: `/${page.file}` }))
}))

const modules = reference.map(({ from, modules, path }) => ({
  text: from,
  link: `/${path}/`,
  items: modules.map(({ name, path }) => ({ text: name, link: `/${path}` }))
}))

// A record: its header, and its content.
const icon =
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#0f7385"/>
<path d="M7 9h6v14H7z" fill="#fff"/><path d="M16 9h9v4h-9zm0 5h9v4h-9zm0 5h6v4h-6z" fill="#bfe9ef"/></svg>`

export default defineConfig({
  title: "effect-fastcgi",
  description: "FastCGI/1.0 for Effect: an HTTP app behind nginx, lighttpd, Apache, HAProxy or Caddy",
  lang: "en",
  // The site below a folder of a host: SITE_BASE=/effect-fastcgi/ npm run site
  base: process.env["SITE_BASE"] ?? "/",
  srcDir: pages,
  outDir: html,
  cacheDir: `${html}/../cache`,
  metaChunk: true,
  head: [
    ["meta", { name: "theme-color", content: "#0f7385" }],
    ["link", { rel: "icon", href: `data:image/svg+xml,${encodeURIComponent(icon)}` }]
  ],
  markdown: {
    highlight,
    attrs: { leftDelimiter: "{:", rightDelimiter: ":}", allowedAttributes: ["id"] },
    anchor: { slugify: anchorOf },
    config: (md) => {
      md.set({ html: false })
      md.use(linkToReference, addresses(reference))
      md.use(withoutVue)
      md.use(indentedCode)
      md.use(scrollingTables)
    }
  },
  vite: {
    css: {
      postcss: {
        plugins: [{
          postcssPlugin: "dark-without-javascript",
          // A script of VitePress sets the class `dark`. Without JavaScript every rule for that class follows the system's setting.
          OnceExit(css, { AtRule }) {
            css.walkRules((rule) => {
              const selectors = rule.selectors.filter((selector) => /^(?:html)?\.dark(?![\w-])/.test(selector))
              if (selectors.length === 0) return
              const follow = new AtRule({ name: "media", params: "(scripting: none) and (prefers-color-scheme: dark)" })
              follow.append(rule.clone({ selectors: selectors.map((selector) => selector.replace(".dark", ":root")) }))
              rule.after(follow)
            })
          }
        }]
      }
    }
  },
  themeConfig: {
    nav: [
      { text: "Pages by job", link: "/", activeMatch: "^/(?!api/)" },
      { text: "Reference", link: "/api/", activeMatch: "^/api/" }
    ],
    sidebar: { "/": guide, "/api/": modules },
    outline: { level: [2, 3] },
    search: { provider: "local" },
    docFooter: { prev: "Before", next: "Next" },
    externalLinkIcon: true
  }
})
