/// What a selector can be filed under in the label index.
import Selectors

extension Selector {
  /// Conditions that every match fulfils, one per restricted label.
  var anchors: [LabelIndex.Anchor] {
    restrictions.compactMap { label, restriction in
      if let values = restriction.values { return .values(label: label, values) }
      return restriction.mustBePresent ? .present(label: label) : nil
    }
  }
}
