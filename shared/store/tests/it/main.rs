//! The store's contract, tested sentence by sentence against every backend.
//!
//! [`contract`] holds the sentences as plain functions, [`backend`] the stores to try them on, and the macro below
//! makes one named test of each pair. What only one backend can get wrong stands in a module of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod backend;
#[cfg(feature = "cloudinary")]
mod cloudinary;
#[cfg(feature = "cloudinary")]
mod cloudinary_server;
mod contract;
mod disk;
mod fault;
mod fuse_like;
mod listing;
mod metered;
mod s3_delete;
mod s3_places;
mod s3_probe;
mod s3_server;
mod s3_service;
mod s3_wire;
mod simulated_disk;
mod trial;
mod wire;

macro_rules! on_every_backend {
    ($($file:ident :: { $($test:ident),* $(,)? }),* $(,)?) => {
        on_every_backend! { @on on_memory memory $($file::{ $($test),* }),* }
        on_every_backend! { @on on_faulty_memory faulty_memory $($file::{ $($test),* }),* }
        on_every_backend! { @on on_disk disk $($file::{ $($test),* }),* }
        on_every_backend! { @on on_a_metered_disk metered_disk $($file::{ $($test),* }),* }
        on_every_backend! { @on on_a_simulated_disk simulated_disk $($file::{ $($test),* }),* }
        on_every_backend! { @on on_a_fuse_like_disk fuse_like_disk $($file::{ $($test),* }),* }
        on_every_backend! { @on on_s3 s3 $($file::{ $($test),* }),* }
        on_every_backend! { @on #[cfg(feature = "cloudinary")] on_cloudinary cloudinary $($file::{ $($test),* }),* }
    };
    (@on $(#[$only:meta])? $module:ident $backend:ident $($file:ident :: { $($test:ident),* }),*) => {
        $(#[$only])?
        mod $module {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    crate::$file::$test(&crate::backend::$backend().await).await;
                }
            )*)*
        }
    };
}

on_every_backend! {
    contract::{
        s01_a_put_outlives_the_store_that_made_it,
        s02_a_reader_sees_the_old_bytes_or_the_new_ones,
        s03_of_concurrent_creates_exactly_one_succeeds,
        s03_a_create_over_an_object_changes_nothing,
        s04_an_update_succeeds_only_on_the_version_it_names,
        s04_of_concurrent_updates_exactly_one_succeeds,
        s04_no_increment_of_a_counter_is_lost,
        s05_an_overwrite_succeeds_with_and_without_an_object,
        s06_bytes_come_back_as_they_went_in,
        s07_a_range_is_cut_off_at_the_end,
        s08_what_was_never_put_is_not_found,
        s09_every_operation_tells_the_same_size_and_etag,
        s11_delete_removes_one_object_and_may_be_repeated,
        s12_a_key_may_be_any_name,
        s13_a_failed_put_leaves_everything_as_it_was,
        s14_a_version_is_deleted_only_while_it_is_the_present_one,
        s14_of_updates_and_deletes_of_one_version_exactly_one_succeeds,
        s14_a_service_that_minds_conditions_of_deletes_is_taken,
        a_copy_has_the_bytes_of_its_source,
        a_copy_with_the_wrong_digest_leaves_its_destination_alone,
        a_folder_of_a_store_is_a_store,
    },
    listing::{
        s10_a_listing_is_sorted_by_the_bytes_of_the_key,
        s10_a_listing_of_many_pages_is_complete,
        s10_a_listing_can_be_taken_up_anywhere,
        s10_a_listing_of_nothing_is_empty,
        s10_a_listing_during_puts_and_deletes_has_what_was_there_throughout,
    },
}
