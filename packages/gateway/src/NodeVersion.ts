/**
 * Ends a program on a Node that is too old, with a line for the operator. The first import of a program: other modules may not
 * load on such a Node. Imports nothing.
 */
const oldest = 24

if (Number.parseInt(process.versions.node, 10) < oldest) {
  console.error(`Greenroom needs Node ${oldest} or newer, and this is ${process.version}`)
  process.exit(1)
}

export {}
