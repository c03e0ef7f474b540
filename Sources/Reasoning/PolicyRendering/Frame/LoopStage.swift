/// A packet to a service's address that nothing has translated would go to the default gateway, which sends it back, until its time to live
/// is over. It ends here (serviceLoopPrevention). What goes to a workload has been decided before: what comes here is forwarded to
/// somewhere else.

import HostPlans
import Rulesets

extension BaseRuleset {
  mutating func serviceLoops() -> [ChainRule] {
    let verdict: Statement
    switch settings.filter.serviceLoops {
    case .drop: verdict = .drop
    case .reject: verdict = .reject(.prohibited)
    case .disabled: return []
    }
    return families.flatMap { family in
      parts(of: .services, family).map {
        ChainRule(
          .family(family), .lookup([.destination(family)], set: $0, negated: false), .counter, verdict,
          comment: "to a service that nothing has translated")
      }
    }
  }
}
