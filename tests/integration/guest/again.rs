//! Tests of the other modules, once more in the guest.

use testkit::env::Line;

macro_rules! again {
    ($($module:ident::$name:ident)*) => {$(
        #[test]
        #[ignore = "for the guest"]
        fn $name() {
            crate::$module::$name::test(Line::V2_1);
        }
    )*};
}

mod own_kernel {
    use super::*;

    again! {
        survival::a_killed_agent_adopts_every_container_as_it_is
        allocatable::all_who_ask_what_the_node_has_get_one_answer
    }
}
