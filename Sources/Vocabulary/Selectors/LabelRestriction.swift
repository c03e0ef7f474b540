/// What every match of a selector has in common, label by label, so that an index can look at few endpoints instead of all.
///
/// Restrictions are necessary, not sufficient: an endpoint that breaks one cannot match, one that keeps all of them still has to be asked.

public struct LabelRestriction: Hashable, Sendable {
  public var mustBePresent: Bool
  public var mustBeAbsent: Bool
  /// The label has one of these, if it matches at all; sorted. Nil if the value is open.
  public var values: [String]?
  public init(mustBePresent: Bool = false, mustBeAbsent: Bool = false, values: [String]? = nil) {
    self.mustBePresent = mustBePresent
    self.mustBeAbsent = mustBeAbsent
    self.values = values
  }
  /// Nothing can satisfy it.
  public var isContradiction: Bool { mustBePresent && mustBeAbsent || values?.isEmpty == true }

  func and(_ other: LabelRestriction) -> LabelRestriction {
    var result = LabelRestriction(
      mustBePresent: mustBePresent || other.mustBePresent, mustBeAbsent: mustBeAbsent || other.mustBeAbsent, values: values)
    if let theirs = other.values { result.values = values.map { $0.filter(Set(theirs).contains) } ?? theirs }
    return result
  }
  /// What all of them have in common; nil if nothing is left to say. All at once: selectors may have many thousands of alternatives.
  static func common(_ alternatives: [LabelRestriction]) -> LabelRestriction? {
    var result = LabelRestriction(
      mustBePresent: alternatives.allSatisfy(\.mustBePresent), mustBeAbsent: alternatives.allSatisfy(\.mustBeAbsent))
    let values = alternatives.compactMap(\.values)
    if values.count == alternatives.count {
      result.values = Set(values.joined()).sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }
    return result == LabelRestriction() ? nil : result
  }
}

extension Selector {
  public typealias Restriction = LabelRestriction
  public var restrictions: [String: LabelRestriction] { root.restrictions(negated: false) }
}

extension Selector.Node {
  func restrictions(negated: Bool) -> [String: LabelRestriction] {
    switch (self, negated) {
    case (.has(let name), false): [name: LabelRestriction(mustBePresent: true)]
    case (.has(let name), true): [name: LabelRestriction(mustBeAbsent: true)]
    case (.equal(let name, let value), false), (.notEqual(let name, let value), true):
      [name: LabelRestriction(mustBePresent: true, values: [value])]
    case (.isIn(let name, let values), false), (.notIn(let name, let values), true):
      [name: LabelRestriction(mustBePresent: true, values: values)]
    case (.contains(let name, _), false), (.starts(let name, _), false), (.ends(let name, _), false):
      [name: LabelRestriction(mustBePresent: true)]
    case (.not(let operand), _): operand.restrictions(negated: !negated)
    case (.and(let operands), false), (.or(let operands), true):
      operands.reduce(into: [:]) { result, operand in
        result.merge(operand.restrictions(negated: negated)) { $0.and($1) }
      }
    case (.or(let operands), false), (.and(let operands), true):
      operands.reduce(into: [String: [LabelRestriction]]()) { found, operand in
        for (name, restriction) in operand.restrictions(negated: negated) { found[name, default: []].append(restriction) }
      }.compactMapValues { $0.count == operands.count ? LabelRestriction.common($0) : nil }
    case (.all, _), (.global, _), (.equal, true), (.notEqual, false), (.isIn, true), (.notIn, false), (.contains, true), (.starts, true),
      (.ends, true):
      [:]
    }
  }
}
