/**
 * VitePress's own theme without the font it brings, in the site's colours.
 */
import Theme from "vitepress/theme-without-fonts"
import "./style.css"

export default Theme
