/// The several selectors of a policy or of one side of a rule, folded into one over the labels of endpoints.
///
/// Endpoints carry the labels of their namespace and service account through profile inheritance, under the prefixes `pcns.` and `pcsa.`.
import Resources
import Selectors

enum FoldedSelector {
  static let namespaceLabel = "projectcalico.org/namespace"
  static let serviceAccountLabel = "projectcalico.org/serviceaccount"
  static let orchestratorLabel = "projectcalico.org/orchestrator"
  static let namespacePrefix = "pcns."
  static let serviceAccountPrefix = "pcsa."

  /// `field` names the text in the message.
  static func parse(_ text: String, _ field: String) throws(RuleFolding.RuleFault) -> Selector {
    do throws(SelectorError) {
      return try Selector(parsing: text)
    } catch {
      throw RuleFolding.RuleFault("\(field) `\(text)`: \(error)")
    }
  }

  static func inNamespace(_ namespace: String) -> Selector { Selector(.equal(namespaceLabel, namespace)) }

  static func ofServiceAccounts(_ text: String, _ field: String) throws(RuleFolding.RuleFault) -> Selector {
    try parse(text, field).prefixingLabels(serviceAccountPrefix)
  }

  /// `env == 'x'` becomes `pcns.env == 'x'`. All namespaces is "whatever is in a namespace", and global() is the opposite of it.
  static func ofNamespaces(_ text: String) throws(RuleFolding.RuleFault) -> Selector {
    Selector(overEndpoints(try parse(text, "namespaceSelector").prefixingLabels(namespacePrefix).root))
  }

  private static func overEndpoints(_ node: Selector.Node) -> Selector.Node {
    switch node {
    case .all: .has(namespaceLabel)
    case .global: .not(.has(namespaceLabel))
    case .not(let operand): .not(overEndpoints(operand))
    case .and(let operands): .and(operands.map(overEndpoints))
    case .or(let operands): .or(operands.map(overEndpoints))
    case .has, .equal, .notEqual, .contains, .starts, .ends, .isIn, .notIn: node
    }
  }
}

extension EntityRule {
  /// What an endpoint must match, and what it must not; nil where the rule does not ask.
  ///
  /// A rule of a namespaced policy stays in its namespace as soon as it speaks of endpoints at all, a negated selector included. Where both
  /// a positive and a negated selector are given, one set of endpoints answers for both.
  func selectors(inNamespace namespace: String?) throws(RuleFolding.RuleFault) -> (positive: Selector?, negative: Selector?) {
    var parts: [Selector] = []
    var asksForEndpoints = false
    var namespacePart: Selector?
    if let text = namespaceSelector, !text.isEmpty {
      namespacePart = try FoldedSelector.ofNamespaces(text)
      asksForEndpoints = true
    } else if let namespace {
      namespacePart = FoldedSelector.inNamespace(namespace)
    }
    if let match = serviceAccounts {
      if let text = match.selector, !text.isEmpty {
        parts.append(try FoldedSelector.ofServiceAccounts(text, "serviceAccounts.selector"))
      }
      if !match.names.isEmpty { parts.append(Selector(.isIn(FoldedSelector.serviceAccountLabel, Set(match.names).sorted()))) }
    }
    if let text = selector, !text.isEmpty { parts.append(try FoldedSelector.parse(text, "selector")) }
    var negative: Selector?
    if let text = notSelector, !text.isEmpty { negative = try FoldedSelector.parse(text, "notSelector") }
    if let namespacePart, asksForEndpoints || !parts.isEmpty || negative != nil { parts.insert(namespacePart, at: 0) }
    guard !parts.isEmpty else { return (nil, negative) }
    if let negative { parts.append(!negative) }
    return (Selector.and(parts), nil)
  }
}

extension PolicySpec {
  /// The endpoints that a policy applies to.
  func foldedSelector(inNamespace namespace: String?) throws(RuleFolding.RuleFault) -> Selector {
    var parts: [Selector] = []
    if let namespace {
      parts.append(FoldedSelector.inNamespace(namespace))
    } else if let text = namespaceSelector, !text.isEmpty {
      parts.append(try FoldedSelector.ofNamespaces(text))
    }
    if let text = serviceAccountSelector, !text.isEmpty {
      parts.append(try FoldedSelector.ofServiceAccounts(text, "serviceAccountSelector"))
    }
    parts.append(try FoldedSelector.parse(selector, "selector"))
    return Selector.and(parts)
  }
}
