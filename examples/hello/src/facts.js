/** What this build knows about itself, as pairs of label and text; unknown facts are left out. */
export function listed(facts) {
  const pairs = [
    ['Project', facts.project],
    ['Deployment', facts.deployment],
    ['Branch', facts.branch],
    ['Commit', facts.commit.slice(0, 12)],
    ['Message', facts.message.split('\n')[0]],
    ['Address', facts.url],
    ['Built', builtAt(facts.builtAt)],
    ['Node', facts.node],
  ]
  return pairs.filter(([, text]) => text)
}

function builtAt(iso) {
  return new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'medium' }).format(new Date(iso))
}
