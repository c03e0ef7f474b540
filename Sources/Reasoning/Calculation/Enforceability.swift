/// What of a policy or profile cannot be enforced, and what stands in its place: said before anything is calculated, by the code that decides it.
public import Resources

public enum EnforcementFault: Hashable, Sendable {
  /// Rule `index` (from 0) denies at its place; a Log is left out instead.
  case rule(Direction, index: Int, isLog: Bool, reason: String)
  /// It cannot be said which endpoints it applies to.
  case selector(reason: String)
}

extension PolicySpec {
  /// `namespace`: nil for a global policy. In the order of the document.
  public func enforcementFaults(inNamespace namespace: String?) -> [EnforcementFault] {
    do {
      _ = try foldedSelector(inNamespace: namespace)
    } catch {
      return [.selector(reason: error.reason)]
    }
    let directions = effectiveTypes
    return (directions.contains(.ingress) ? EnforcementFault.of(ingress, .ingress, namespace) : [])
      + (directions.contains(.egress) ? EnforcementFault.of(egress, .egress, namespace) : [])
  }
}

extension ProfileSpec {
  public var enforcementFaults: [EnforcementFault] {
    EnforcementFault.of(ingress, .ingress, nil) + EnforcementFault.of(egress, .egress, nil)
  }
}

extension EnforcementFault {
  fileprivate static func of(_ rules: [Rule], _ direction: Direction, _ namespace: String?) -> [EnforcementFault] {
    rules.enumerated().compactMap { index, rule in
      var folding = RuleFolding(namespace: namespace)
      folding.fold([rule], direction)
      guard let words = folding.folded.faults.first else { return nil }
      // `ingress rule 1: reason`: the number is that of the only rule.
      let reason = words.split(separator: ": ", maxSplits: 1).last.map(String.init) ?? words
      return .rule(direction, index: index, isLog: rule.action == .log, reason: reason)
    }
  }
}
