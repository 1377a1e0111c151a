/**
 * VitePress's own theme without the font it brings, in the site's colours.
 */
import Theme from "vitepress/theme-without-fonts"
// oxlint-disable-next-line import/no-unassigned-import -- A style sheet exports nothing.
import "./style.css"

export default Theme
