//! Variables that an init container writes to a file of a volume (`fileKeyRef`).

use crate::node::on_both_lines;

const POD: &str = r##"
terminationGracePeriodSeconds: 0
initContainers:
- name: write
  image: $BUSYBOX
  command: [sh, -c, "printf \"# made here\\nNAME='two words'\\nLINES='a\\nb'\\n\" > /env/file; ln -s /etc/passwd /env/out"]
  volumeMounts:
  - {name: env, mountPath: /env}
containers:
- name: app
  image: $BUSYBOX
  command: [sleep, "3600"]
  env:
  - name: NAME
    valueFrom: {fileKeyRef: {volumeName: env, path: file, key: NAME}}
  - name: LINES_OF_IT
    valueFrom: {fileKeyRef: {volumeName: env, path: file, key: LINES}}
  - name: NONE
    valueFrom: {fileKeyRef: {volumeName: env, path: file, key: NONE, optional: true}}
  - name: NO_FILE
    valueFrom: {fileKeyRef: {volumeName: env, path: none, key: NONE, optional: true}}
  - name: BOTH
    value: "$(NAME)!"
- name: wrong
  image: $BUSYBOX
  command: [sleep, "3600"]
  env:
  - name: NAME
    valueFrom: {fileKeyRef: {volumeName: env, path: out, key: root}}
  volumeMounts:
  - {name: env, mountPath: /env}
volumes:
- name: env
  emptyDir: {}
"##;

on_both_lines! {
    fn variables_come_from_a_file_that_an_init_container_has_written(node) {
        node.apply("files", POD);
        node.until_container("files", "app", "runs", |status| !status["state"]["running"].is_null());
        let variables = node.exec("files", "app", "echo \"$NAME|$LINES_OF_IT|${NONE-unset}|${NO_FILE-unset}|$BOTH\"");
        assert_eq!(variables, "two words|a\nb|unset|unset|two words!\n");
        node.until_container("files", "wrong", "waits", |status| {
            let waiting = &status["state"]["waiting"];
            let message = waiting["message"].as_str().unwrap_or_default();
            waiting["reason"] == "CreateContainerConfigError" && message.starts_with("couldn't parse env file: ")
        });
    }
}
