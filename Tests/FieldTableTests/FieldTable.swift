/// `design/fields.md`, from what the readers of documents say.
import Documents
import JSON
import Resources

enum FieldTable {
  static func text() throws -> String {
    let text = """
      # Every kind, every field

      Written by `Tests/FieldTableTests` (`UPDATE_GOLDENS=1 swift test --filter FieldTable`) from the examples in `Tests/Fixtures/Resources`, and
      compared with them in every run. For each field of this table the tests see that

      * the readers ask for it and an example has it (a field that is read and in no example fails the test), and the example is accepted;
      * the wrong value shown is refused at exactly this place, in these words;
      * its mistyped name is answered with the right one;
      * it survives reading and writing, alone and over the document it came from;
      * a field beside it that nobody knows survives `apply` and `update`.

      *Used*: a program or decision names the field, outside of what defines, spells and shows it. *Kept, read by no program*: checked,
      stored, shown.
      *Kept, no effect yet*: the same, and a write of it warns, since it would do something in Calico. *Kept, the rule denies*: such a rule cannot
      be enforced as written and acts as a deny at its own place. *Kept, not looked at*: stored as it stands. *Refused*: the field exists, not here.


      """
    var summary = "| Kind | Fields | Used | Kept |\n|---|---|---|---|\n"
    var sections = ""
    for subject in FieldTableTests.subjects {
      let catalogue = try FieldTableTests.catalogue(subject)
      let known = catalogue.asked.union(catalogue.passed)
      let fields = catalogue.rows.filter { known.contains($0) }
      let used = fields.filter { catalogue.effect(of: $0) == "used" }.count
      let title = subject == "Metadata" ? "All kinds" : subject
      summary += "| \(title) | \(fields.count) | \(used) | \(fields.count - used) |\n"
      sections += "\n## \(title)\n\n| Field | Effect | Refused, for example | In these words |\n|---|---|---|---|\n"
      for field in catalogue.rows {
        let refusal = catalogue.refusal(of: field)
        let wrong = refusal.map { "`\(cell($0.value.text()))`" } ?? ""
        sections += "| `\(field)` | \(catalogue.effect(of: field)) | \(wrong) | \(refusal.map { cell($0.error.rule) } ?? "") |\n"
      }
      for field in catalogue.asked.subtracting(catalogue.present).sorted() {
        guard let error = catalogue.refusalOfPresence(field) else { continue }
        sections += "| `\(field)` | refused | any | \(cell(error.rule)) |\n"
      }
    }
    return text + summary + sections
  }

  /// A rule without the list of all words, and without what would end the cell.
  private static func cell(_ text: String) -> String { text.replacing("|", with: "\\|") }
}
