/**
 * The links of a Markdown text, and the text with other ones. What stands in code is no link.
 */

// A block of code, code in a line, a picture, or the target of a link, of which only the last is captured.
const codeOrLink = /^[ \t]*(`{3,})[\s\S]*?^[ \t]*\1[ \t]*$|(`+)[^`][\s\S]*?\2|!\[[^\]]*\]\([^)]*\)|\]\(([^()\s]+)\)/gm

const isElsewhere = (link: string): boolean => /^[a-z]+:/.test(link)

/** The text with every relative link replaced by what `change` makes of it. */
export const changeLinks = (text: string, change: (link: string) => string): string =>
  text.replace(
    codeOrLink,
    (match: string, _fence: unknown, _tick: unknown, link: string | undefined) =>
      link === undefined || isElsewhere(link) ? match : `](${change(link)})`
  )

/** The relative links of the text, in order. */
export const linksOf = (text: string): ReadonlyArray<string> => {
  const links: Array<string> = []
  changeLinks(text, (link) => {
    links.push(link)
    return link
  })
  return links
}
