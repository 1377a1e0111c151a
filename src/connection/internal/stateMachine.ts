/**
 * States made of a table of transitions. Pure.
 *
 * All states of a machine have one shape, so a step is the read of two properties: `state = state.after.end`.
 */

/** A state: its name, what holds in it, and the state after each event. */
export type State<Name extends string, Event extends string, Traits> = Traits & {
  readonly name: Name
  readonly after: { readonly [E in Event]: State<Name, Event, Traits> }
}

/** Which state follows an event, by the state before. An event that a row leaves out changes nothing. */
export type Transitions<Name extends string, Event extends string> = {
  readonly [N in Name]: { readonly [E in Event]?: Name }
}

/** Makes the states of a table. */
export const makeStates = <Name extends string, Event extends string, Traits extends object>(
  events: ReadonlyArray<Event>,
  transitions: Transitions<Name, Event>,
  traitsOf: (name: Name) => Traits
): { readonly [N in Name]: State<Name, Event, Traits> } => {
  const states: { [name: string]: Traits & { readonly name: string; readonly after: { [event: string]: unknown } } } =
    {}
  const table: { readonly [name: string]: { readonly [E in Event]?: Name } } = transitions
  for (const name in transitions) states[name] = { ...traitsOf(name), name, after: {} }
  for (const name in table) {
    for (const event of events) states[name].after[event] = states[table[name][event] ?? name]
  }
  // Each has an entry for each event now.
  return states as unknown as { readonly [N in Name]: State<Name, Event, Traits> }
}
