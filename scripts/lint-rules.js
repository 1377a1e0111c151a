/**
 * The lint rules of this project that oxlint does not have: what Effect code says with Effect. They apply to `src/` outside
 * `node/` and `cli/` (see .oxlintrc.json).
 */

const rule = (message, visitors) => ({
  meta: { type: "problem", docs: { description: message } },
  create: (context) => visitors((node) => context.report({ node, message }))
})

/** `try` loses the error's type, and around a `yield*` it does not see a failure at all. */
const noTry = rule("Use Result, Effect.try or a typed error instead of try", (report) => ({ TryStatement: report }))

/** A promise escapes interruption, so its owner cannot end it. */
const noPromise = rule("Use an Effect instead of a Promise", (report) => ({
  NewExpression: (node) => node.callee.type === "Identifier" && node.callee.name === "Promise" && report(node),
  MemberExpression: (node) => node.object.type === "Identifier" && node.object.name === "Promise" && report(node)
}))

export default {
  meta: { name: "effect-fastcgi" },
  rules: { "no-try": noTry, "no-promise": noPromise }
}
